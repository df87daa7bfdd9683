"""Which sources of past runs hurt: what a source's runs add to the forecast of other sources' tasks.

Every task of a judging source in turn is forecast from all other tasks, once with the source's runs
and once without them, each time under laws that were learned from just these runs. The gain is the
log probability density of the task's scores with them less that without, a run; a source of which the
mean gain over tasks lies below zero by more than its standard error hurts. The worst is left out,
then the rest is asked again, until none hurts.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.searchers.transfer.run_columns import TASK
from foretune.searchers.transfer.run_discounts import held_out_densities
from foretune.searchers.transfer.run_surrogate import RunSurrogate

FEWEST_TASKS = 6  # that a verdict takes
RUNS, TASKS = 16, 60  # of a task, and in all: a verdict needs no more
SEED = 0


@dataclass(frozen=True)
class SourceGain:
    """What the runs of source `name` add to the log density of a run of other sources' `tasks` tasks,
    the mean over tasks with its standard error.
    """

    name: str
    gain: float
    error: float
    tasks: int

    @property
    def hurts(self) -> bool:
        """Whether forecasts are better without it, beyond chance."""
        return self.gain + self.error < 0

    def __str__(self) -> str:
        return (
            f"log density of a run {self.gain:+.2f} ± {self.error:.2f} with them, on {self.tasks} "
            "tasks of other sources"
        )


def hurtful(
    runs: pd.DataFrame, of: pd.Series, judges: Mapping[str, Collection[str]]
) -> tuple[list[SourceGain], list[SourceGain]]:
    """The sources that hurt, worst first, and the verdicts on the others that could be judged. `of`
    names the source of each of `runs`, `judges` the sources on whose tasks each is judged.
    """
    chosen = some_of(runs, of)
    runs, of = runs[chosen].reset_index(drop=True), of[chosen].reset_index(drop=True)
    out: list[SourceGain] = []
    while True:
        left = ~of.isin([one.name for one in out])
        found = gains(runs[left], of[left], judges)
        worst = min((one for one in found if one.hurts), key=lambda one: one.gain, default=None)
        if worst is None:
            return out, found
        out.append(worst)


def some_of(runs: pd.DataFrame, of: pd.Series) -> np.ndarray:
    """The runs that a verdict is reached on, (n,) bool: at most `RUNS` of a task and `TASKS` tasks in
    all, as many of each source.
    """
    rng = np.random.default_rng(SEED)
    most = max(FEWEST_TASKS, TASKS // of.nunique())
    kept: list[str] = []
    for _, tasks in runs[TASK].groupby(of.to_numpy()):
        names = sorted(map(str, tasks.unique()))
        kept += [names[k] for k in rng.permutation(len(names))[:most]]
    order = rng.permutation(len(runs))
    place = pd.Series(order).groupby(runs[TASK].to_numpy()[order]).cumcount().to_numpy()
    few = np.zeros(len(runs), dtype=bool)
    few[order] = place < RUNS
    return few & runs[TASK].isin(kept).to_numpy()


def gains(
    runs: pd.DataFrame, of: pd.Series, judges: Mapping[str, Collection[str]]
) -> list[SourceGain]:
    """The verdict on each source that has judges with `FEWEST_TASKS` tasks among `runs`."""
    with_all: dict[str, float] | None = None
    out = []
    for name in sorted(map(str, of.unique())):
        judged = set(map(str, runs.loc[of.isin(set(judges.get(name, ())) - {name}), TASK].unique()))
        if len(judged) < FEWEST_TASKS:
            continue
        try:
            with_all = densities(runs) if with_all is None else with_all
            without = densities(runs[of != name])
        except BadInput:  # nothing is left to forecast from
            continue
        apart = np.array([with_all[t] - d for t, d in without.items() if t in judged])
        if len(apart) >= FEWEST_TASKS:
            error = float(apart.std(ddof=1) / np.sqrt(len(apart)))
            out.append(SourceGain(name, float(apart.mean()), error, len(apart)))
    return out


def densities(runs: pd.DataFrame) -> dict[str, float]:
    """Log density of a score of each task given the other tasks' runs, a mean over its runs."""
    surrogate = RunSurrogate(runs)
    found = held_out_densities(surrogate, surrogate.laws, np.arange(len(surrogate.y)))
    count = np.bincount(surrogate.task)
    # in the scores' own unit: a task's scale may differ between two forecasts
    return {
        name: float(found[t] / count[t] - np.log(surrogate.scale[t]))
        for t, name in enumerate(surrogate.tasks)
    }
