"""What past runs of any space and settings are worth: every task in turn is new, and the others are
its history.

The pool of a task are its own runs. Each pick takes the largest expected improvement and is told its
score before the next, with the forecast from the other tasks' runs, and, by the same search, without.
Saved are the trainings that the search without history needed for what it had after `BUDGET` of them,
less those that the search with history needed for as much; one that does not get there within twice
the budget counts that. Laws of the process are learned on tasks among which the new one is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.gaussian.acquisition import expected_improvement
from foretune.searchers.transfer.run_columns import SCORE, TASK
from foretune.searchers.transfer.run_discounts import Discount, discounts
from foretune.searchers.transfer.run_prior import RunPrior, past_unit
from foretune.searchers.transfer.run_surrogate import Forecast, Laws, RunSurrogate, usable

BUDGET = 5  # trainings
FOLDS = 5
FEWEST_RUNS = 5  # of a task that is replayed
FEWEST_TASKS = 6  # for an interval
DRAWS = 2000  # bootstrap samples of the tasks
MOST_RUNS = 200  # of a task's pool
SETTINGS = ("network", "image_size", "train_images", "epochs", "pretrained", "trainer")


@dataclass(frozen=True)
class Worth:
    """Trainings saved by task, the epochs of a training of it (NaN: not known), the runs of it, and
    what runs of other settings count.
    """

    by_task: Mapping[str, float]
    epochs: Mapping[str, float]
    runs: Mapping[str, int]
    discounts: tuple[Discount, ...]

    @property
    def mean(self) -> float:
        """Trainings saved a task."""
        return float(np.mean(list(self.by_task.values())))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 90 % bootstrap interval of the mean over tasks; None from fewer than `FEWEST_TASKS`."""
        values = np.array(list(self.by_task.values()))
        if len(values) < FEWEST_TASKS:
            return None
        means = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(axis=1)
        low, high = np.percentile(means, [5, 95])
        return float(low), float(high)

    @property
    def hurt(self) -> list[str]:
        """The tasks on which history cost trainings, most first."""
        return sorted((t for t, v in self.by_task.items() if v < 0), key=self.by_task.__getitem__)


def worth(
    runs: pd.DataFrame,
    tasks: "list[str] | None" = None,
    settings: "Mapping[str, object] | None" = None,
    *,
    seeds: int = 3,
) -> Worth:
    """What the other tasks' `runs` (`task`, `score`, and columns of any kind) would have saved on each
    of `tasks` (None: all) with at least `FEWEST_RUNS`, the mean over `seeds`; and the discounts for a
    study with `settings` (what these leave open: the most frequent ones of `tasks`).

    Raises `BadInput` where no task has enough runs, or only one task has any.
    """
    runs = usable(runs)
    every = sorted(map(str, runs[TASK].unique()))
    if len(every) < 2:
        raise BadInput(f"only {every[0]} has runs that differ: leave-one-task-out needs two tasks")
    size = runs[TASK].value_counts()
    chosen = [t for t in (tasks or every) if size.get(t, 0) >= FEWEST_RUNS]
    if not chosen:
        raise BadInput(
            f"no task has {FEWEST_RUNS} runs with different scores, and so nothing to replay"
        )
    laws: dict[str, tuple[Laws, set[str]]] = {}
    for k in range(min(FOLDS, len(every))):
        held_out = set(every[k::FOLDS]) if len(every) > FOLDS else {every[k]}
        if held_out & set(chosen):
            learned = RunSurrogate(runs[~runs[TASK].isin(held_out)]).laws
            laws |= dict.fromkeys(held_out, (learned, held_out))
    saved: dict[str, float] = {}
    for task in chosen:
        others = runs[runs[TASK] != task]
        # columns are those that the laws were learned on; the task's fold is not among them
        learned, held_out = laws[task]
        frame = others[~others[TASK].isin(held_out)]
        surrogate = RunSurrogate(frame, laws=learned)
        saved[task] = float(
            np.mean([saving(surrogate, runs[runs[TASK] == task], seed) for seed in range(seeds)])
        )
    epochs = runs.groupby(TASK)["epochs"].median() if "epochs" in runs else pd.Series(dtype=float)
    return Worth(
        saved,
        {t: float(epochs.get(t, np.nan)) for t in chosen},
        {t: int(size[t]) for t in chosen},
        tuple(discounts_of(runs, usual(runs[runs[TASK].isin(chosen)]) | dict(settings or {}))),
    )


def saving(surrogate: RunSurrogate, own: pd.DataFrame, seed: int) -> float:
    """Trainings saved on one task, whose runs are `own`."""
    # the pool's order says nothing: ties of a search without history fall at random
    pool = own.sample(n=min(len(own), MOST_RUNS), random_state=seed)
    scores = pool[SCORE].to_numpy(dtype=float)
    budget = min(BUDGET, len(pool) - 1)
    said = surrogate.forecast(pool)
    orders = [
        picks_of(prior_of(surrogate, forecast, pool), scores, 2 * budget)
        for forecast in (without_history(len(pool)), said)
    ]
    plain, helped = (np.maximum.accumulate(scores[order]) for order in orders)
    target = plain[budget - 1]
    return float(needed(plain, target, 2 * budget) - needed(helped, target, 2 * budget))


def needed(best: np.ndarray, target: float, most: int) -> int:
    """Trainings until the best so far is as good as the target, `most` where it never is."""
    reached = np.flatnonzero(best >= target)
    return int(reached[0]) + 1 if len(reached) else most


def prior_of(surrogate: RunSurrogate, said: Forecast, pool: pd.DataFrame) -> RunPrior:
    """The prior of a pool of runs that are trained whole."""
    unit = past_unit(surrogate.location, surrogate.scale, surrogate.laws.level)
    X = surrogate.columns.encode(pool) / np.sqrt(len(surrogate.columns.names))
    return RunPrior(said, unit, X, 1, variance=surrogate.variance)


def without_history(pool: int) -> Forecast:
    """A forecast that says nothing."""
    return Forecast(np.zeros(pool), np.zeros((pool, pool)), 1.0, np.zeros((1, pool)))


def picks_of(prior: RunPrior, scores: np.ndarray, count: int) -> list[int]:
    """The first `count` picks by expected improvement, each told before the next."""
    picks: list[int] = []
    ladder = np.zeros(1, dtype=int)
    while len(picks) < min(count, len(scores)):
        c = np.array(picks, dtype=int)
        belief = prior.believe(c, np.zeros(len(c), dtype=int), scores[c], ladder)
        value = belief.expected[:, 0]
        if picks:
            gain = expected_improvement(belief.mean, belief.std, float(scores[c].max()))
            value = np.tensordot(belief.weight, gain, axes=1)[:, 0]
        value[c] = -np.inf
        picks.append(int(value.argmax()))
    return picks


def usual(runs: pd.DataFrame) -> dict[str, object]:
    """The most frequent value of each setting of `SETTINGS` that the runs name."""
    known = [name for name in SETTINGS if name in runs and runs[name].notna().any()]
    return {name: runs[name].mode().iloc[0] for name in known}


def discounts_of(runs: pd.DataFrame, settings: "Mapping[str, object]") -> list[Discount]:
    """What runs of other settings count for a study with these, of the columns `SETTINGS` in which
    runs differ.
    """
    mine = {
        name: settings[name]
        for name in SETTINGS
        if name in settings and name in runs and runs[name].nunique() > 1
    }
    return discounts(RunSurrogate(runs), runs, mine) if mine else []
