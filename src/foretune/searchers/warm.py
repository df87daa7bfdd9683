"""The plainest uses of past tasks: a fixed list of configurations, each trained to the end.

`MeanRank` orders the pool by the mean over past tasks of a configuration's rank. `Portfolio` builds its list greedily: each next configuration is the
one that lowers the mean regret of the best so far most (Feurer et al., Auto-sklearn 2.0, JMLR 2022, Algorithm 1). Both go on with the mean rank when
their list ends, and with configurations that no past task knows last, at random.

Notation: T past tasks, n configurations; `best` (T, n) = best value over epochs.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from foretune.errors import BadInput
from foretune.searchers.base import Searcher, adopt_past, draw
from foretune.study import Step, Study


def past_best(study: Study) -> np.ndarray:
    """Best values (T, n) of the study's own configurations on its past tasks, NaN where unknown. Raises `BadInput` without past tasks."""
    if study.past is None or not study.past.tasks:
        raise BadInput(
            "this method starts from past tasks and there are none: give a meta-dataset, or take --method hyperband"
        )
    best = np.full((len(study.past.tasks), len(study.configs)), np.nan)
    known = study.past_ids >= 0
    if not known.any():
        return best
    best[:, known] = study.past.best()[:, study.past_ids[known]]
    return best


def normalized_regret(best: np.ndarray) -> np.ndarray:
    """(max - value) / (max - min) per task, (T, n); NaN stays NaN, a constant task is 0."""
    high = np.nanmax(best, axis=1, keepdims=True)
    low = np.nanmin(best, axis=1, keepdims=True)
    return (high - best) / np.where(high > low, high - low, 1.0)


def mean_rank(best: np.ndarray) -> np.ndarray:
    """Mean over tasks of the rank (0 = best, as a share of the task's known configurations), (n,); inf where no task knows it."""
    known = ~np.isnan(best)
    share = np.zeros(best.shape)
    for row, values, here in zip(share, best, known, strict=True):
        ranked = np.sort(values[here])
        left, right = np.searchsorted(ranked, values[here], "left"), np.searchsorted(ranked, values[here], "right")
        better, ties = len(ranked) - right, right - left - 1
        row[here] = (better + ties / 2) / max(len(ranked) - 1, 1)
    total = np.where(known, share, 0).sum(axis=0)
    seen = known.sum(axis=0)
    return np.where(seen > 0, total / np.maximum(seen, 1), np.inf)


def greedy_portfolio(best: np.ndarray, size: int) -> list[int]:
    """Configurations in the order in which each lowers the mean regret of the best so far most; ends early when none does."""
    known = ~np.isnan(best).all(axis=1)
    if not known.any():
        return []
    regret = np.where(np.isnan(r := normalized_regret(best[known])), 1.0, r)
    found = np.ones(regret.shape[0])
    chosen: list[int] = []
    while len(chosen) < size:
        after = np.minimum(found[:, None], regret).mean(axis=0)
        after[chosen] = np.inf
        pick = int(np.argmin(after))
        if not after[pick] < found.mean() - 1e-12:
            break
        chosen.append(pick)
        found = np.minimum(found, regret[:, pick])
    return chosen


def alike(best: np.ndarray, tasks: Sequence[str], config_id: int) -> dict[str, float]:
    """What a place in such a list leans on: every past task that knows the configuration, in equal shares, whether it did well there or not."""
    names = [task for task, value in zip(tasks, best[:, config_id], strict=True) if not np.isnan(value)]
    return {task: round(1 / len(names), 4) for task in names}


def speaking_for(best: np.ndarray, tasks: Sequence[str], config_id: int) -> dict[str, float]:
    """How much each past task speaks for a configuration: 1 - normalized regret, as shares; at most five tasks."""
    known = ~np.isnan(best[:, config_id])
    if not known.any():
        return {}
    support = 1.0 - normalized_regret(best[known])[:, config_id]
    names = [t for t, k in zip(tasks, known, strict=True) if k]
    top = np.argsort(-support, kind="stable")[:5]
    total = support[top].sum() or 1.0
    return {names[k]: round(float(support[k] / total), 3) for k in top}


class MeanRank(Searcher):
    """Train the configurations fully, in the order of their mean rank on the past tasks."""

    name = "mean-rank"
    why = "mean rank over past tasks"

    def __init__(self) -> None:
        self._lists: WeakKeyDictionary[Study, tuple[np.ndarray, list[int]]] = WeakKeyDictionary()

    def list_of(self, study: Study) -> tuple[np.ndarray, list[int]]:
        """`past_best` and the order, computed once per study: they depend on its past alone, and on how many configurations it knows."""
        known = self._lists.get(study)
        if known is None or known[0].shape[1] != len(study.configs):
            best = past_best(study)
            known = self._lists[study] = best, self.order(best)
        return known

    def order(self, best: np.ndarray) -> list[int]:
        """Configurations to train, best first."""
        rank = mean_rank(best)
        return [int(c) for c in np.argsort(rank, kind="stable") if np.isfinite(rank[c])]

    def suggest(self, study: Study, rng: np.random.Generator) -> Step | None:
        """The first configuration of the list that is not fully trained, from where it stands to the last epoch."""
        adopt_past(study)
        best, order = self.list_of(study)
        free = study.available
        for place, c in enumerate(order):
            if free[c]:
                because = {"why": f"{self.why}: place {place + 1}", "past": alike(best, study.past.tasks, c)}  # type: ignore[union-attr]
                return Step(c, int(study.epoch[c]), study.max_epoch, because)
        fresh = draw(study, rng)
        return None if fresh is None else Step(fresh, 0, study.max_epoch, {"why": "no past task knows it: random"})


class Portfolio(MeanRank):
    """Train the greedy portfolio of the past tasks fully, then go on by mean rank."""

    name = "portfolio"
    why = "greedy portfolio of past tasks"

    def __init__(self, size: int = 1000):
        if size < 1:
            raise BadInput(f"size={size} must be at least 1")
        super().__init__()
        self.size = size

    def order(self, best: np.ndarray) -> list[int]:
        """The portfolio, then the rest by mean rank."""
        chosen = greedy_portfolio(best, self.size)
        return chosen + [c for c in super().order(best) if c not in set(chosen)]
