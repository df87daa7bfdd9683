"""Facts about a table of best values: ranks, regret, the greedy portfolio.

Notation: T past tasks, n configurations; `best` (T, n) = best value over epochs, higher is better,
NaN where unknown.
"""

from collections.abc import Sequence

import numpy as np


def normalized_regret(best: np.ndarray) -> np.ndarray:
    """(max - value) / (max - min) per task, (T, n); NaN stays NaN, a constant task is 0."""
    high = np.nanmax(best, axis=1, keepdims=True)
    low = np.nanmin(best, axis=1, keepdims=True)
    return (high - best) / np.where(high > low, high - low, 1.0)


def mean_rank(best: np.ndarray) -> np.ndarray:
    """Mean over tasks of the rank (0 = best, as a share of the task's known configurations), (n,).

    Inf where no task knows it.
    """
    known = ~np.isnan(best)
    share = np.zeros(best.shape)
    for row, values, finite in zip(share, best, known, strict=True):
        ranked = np.sort(values[finite])
        left = np.searchsorted(ranked, values[finite], "left")
        right = np.searchsorted(ranked, values[finite], "right")
        better, ties = len(ranked) - right, right - left - 1
        row[finite] = (better + ties / 2) / max(len(ranked) - 1, 1)
    total = np.where(known, share, 0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf)


def greedy_portfolio(best: np.ndarray, size: int) -> list[int]:
    """Configurations in the order in which each lowers the mean regret of the best so far most.

    Ends early when none does.
    """
    known = ~np.isnan(best).all(axis=1)
    if not known.any():
        return []
    regret = np.where(np.isnan(r := normalized_regret(best[known])), 1.0, r)
    reached = np.ones(regret.shape[0])
    chosen: list[int] = []
    while len(chosen) < size:
        after = np.minimum(reached[:, None], regret).mean(axis=0)
        after[chosen] = np.inf
        pick = int(np.argmin(after))
        if not after[pick] < reached.mean() - 1e-12:
            break
        chosen.append(pick)
        reached = np.minimum(reached, regret[:, pick])
    return chosen


def equal_support(best: np.ndarray, tasks: Sequence[str], config_id: int) -> dict[str, float]:
    """What a place in a list of all past tasks leans on, as shares.

    Every past task that knows the configuration counts alike, whether it did well there or not.
    """
    known = ~np.isnan(best[:, config_id])
    names = [task for task, k in zip(tasks, known, strict=True) if k]
    return {task: round(1 / len(names), 4) for task in names}


def support_by_task(best: np.ndarray, tasks: Sequence[str], config_id: int) -> dict[str, float]:
    """How much each past task speaks for a configuration: 1 - normalized regret, as shares.

    At most five tasks.
    """
    known = ~np.isnan(best[:, config_id])
    if not known.any():
        return {}
    support = 1.0 - normalized_regret(best[known])[:, config_id]
    names = [t for t, k in zip(tasks, known, strict=True) if k]
    top = np.argsort(-support, kind="stable")[:5]
    total = support[top].sum() or 1.0
    return {names[k]: round(float(support[k] / total), 3) for k in top}
