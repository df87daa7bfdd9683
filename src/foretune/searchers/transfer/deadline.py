"""What searchers that spend against a deadline share: the next deadline, what to condition on, and
whom a prediction leans on.
"""

import numpy as np

from foretune.study.study import Study

MOST_CELLS = 400  # observations that one decision conditions on


def until_deadline(study: Study) -> int:
    """Epochs to the next of 1, 2, 5, 10, ... full trainings, pending steps counted as spent; at
    most what remains, at least 1.
    """
    used = study.budget - study.remaining
    decade = 1
    while True:
        for factor in (1, 2, 5):
            deadline = factor * decade * study.max_epoch
            if deadline > used:
                return max(1, min(deadline - used, study.remaining))
        decade *= 10


def affordable(study: Study, left: int) -> np.ndarray:
    """Epochs of each configuration that cost what `left` epochs of the pool's in the middle do,
    (n,) int: `left` of each, unless time is the budget and epochs differ in their cost.
    """
    return np.maximum(1, (left / study.relative_costs).round()).astype(int)


def observations(study: Study, ladder: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells (c, e) and values to condition on: of each curve the ladder's epochs and the last two,
    a failure as the worst value.

    Beyond `MOST_CELLS` only every other, fourth, ... ladder epoch is kept besides the last.
    """
    keep = np.zeros(study.Y.shape, dtype=bool)
    seen = np.isfinite(study.Y)
    last = np.where(seen.any(axis=1), seen.shape[1] - 1 - seen[:, ::-1].argmax(axis=1), -1)
    rows = np.flatnonzero(last >= 0)
    every = 1
    while True:
        keep[:] = False
        keep[:, ladder[::-1][::every]] = True
        keep[rows, last[rows]] = True
        if every == 1:
            keep[rows, np.maximum(last[rows] - 1, 0)] = True
        if (keep & seen).sum() <= MOST_CELLS or every > len(ladder):
            break
        every *= 2
    c, e = np.nonzero(keep & seen)
    y = study.Y[c, e]
    if study.failed.any() and len(y):
        failed = np.flatnonzero(study.failed)
        worst = np.full(len(failed), float(y.min()) - (float(y.std()) or 0.0))
        return np.r_[c, failed], np.r_[e, np.maximum(study.epoch[failed] - 1, 0)], np.r_[y, worst]
    return c, e, y


def leaning(lean: np.ndarray, tasks: tuple[str, ...], most: int = 5) -> dict[str, float]:
    """The past tasks that carry most of a prediction, as shares of the whole; at most five."""
    total = float(lean.sum())
    if total <= 0:
        return {}
    top = np.argsort(-lean, kind="stable")[:most]
    return {tasks[k]: round(float(lean[k] / total), 3) for k in top if lean[k] > 0}
