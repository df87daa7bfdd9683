"""What history would have saved: the user's own past studies replayed leave-one-out, with and without the others as history.

For each task of a meta-dataset: the epochs that the searcher with history needs until its incumbent is as good as what
history-free search has after its whole budget, against the epochs that the latter needed for that. Saved = needed without
minus needed with; negative where history cost. The mean over tasks comes with a bootstrap interval over tasks. Tasks cut from the
same source (`sources` in about.json) do not count as each other's history.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foretune.errors import BadInput
from foretune.evaluation.leave_one_out import past_of
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST, searcher

if TYPE_CHECKING:
    from foretune.meta import MetaDataset

DRAWS = 2000  # bootstrap samples of the tasks


@dataclass(frozen=True)
class Saved:
    """Epochs saved by task (averaged over seeds), their mean with a 90 % interval over tasks, and the budget of each run.

    A task on which history never got as far counts the whole budget as needed: its saving is a lower bound of the loss.
    """

    by_task: Mapping[str, float]
    mean: float
    low: float
    high: float
    budget: int
    with_history: str
    without: str

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        what = "saved" if self.mean >= 0 else "cost"
        helped = sum(v > 0 for v in self.by_task.values())
        return (
            f"Tuning with history ({self.with_history}) would have {what} {abs(self.mean):.1f} of {self.budget} epochs a study on "
            f"average (90 % interval {self.low:.1f} to {self.high:.1f}), and helped on {helped} of {len(self.by_task)} tasks."
        )


def incumbents(
    meta: "MetaDataset", task: str, name: str, budget: int, seed: int, sources: Sequence[str] | None = None
) -> np.ndarray:
    """Incumbent after each epoch spent, higher is better, (epochs spent,); `sources` are the past tasks (default: all others)."""
    study, objective = replay_study(meta, task, budget=budget, seed=seed, method=name, sources=sources)
    for _ in replay(study, objective, searcher(name), Score(meta, task)):
        pass
    values = [study.Y[c, e - 1] for c, e in study.order]
    return np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))


def needed(trace: np.ndarray, target: float, budget: int) -> int:
    """Epochs until `trace` reaches `target`; the budget if it never does."""
    reached = np.flatnonzero(trace >= target - 1e-12)
    return int(reached[0]) + 1 if len(reached) else budget


def would_have_saved(
    meta: "MetaDataset",
    budget: int | None = None,
    seeds: int = 3,
    method: str = DEFAULT,
    without: str = DEFAULT_WITHOUT_PAST,
) -> Saved:
    """Replay every task of `meta` with the others as history and without; `budget` defaults to five full trainings.

    Raises `BadInput` for fewer than two tasks: there would be no history.
    """
    if len(meta.tasks) < 2:
        raise BadInput(f"{meta.name} has {len(meta.tasks)} task(s); leave-one-out needs at least 2")
    budget = 5 * meta.max_epoch if budget is None else budget
    by_task, past = {}, past_of(meta)
    for task in meta.tasks:
        differences = []
        if not past[task]:
            continue
        for seed in range(seeds):
            plain = incumbents(meta, task, without, budget, seed, [])
            helped = incumbents(meta, task, method, budget, seed, past[task])
            if len(plain) and np.isfinite(plain[-1]):
                differences.append(needed(plain, plain[-1], budget) - needed(helped, plain[-1], budget))
        if differences:
            by_task[task] = float(np.mean(differences))
    if not by_task:
        raise BadInput(f"{meta.name} has no task with finite values and with tasks of another source to learn from")
    values = np.array(list(by_task.values()))
    means = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(means, [5, 95])
    return Saved(by_task, float(values.mean()), float(low), float(high), budget, method, without)
