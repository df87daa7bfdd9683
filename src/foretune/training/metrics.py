"""What is measured of a classifier: each metric a column of an epoch's row, `valid_` before it.

| metric              | is                                                              | better |
|---------------------|-----------------------------------------------------------------|--------|
| `accuracy`          | share of images whose likeliest class is right                  | higher |
| `top5`              | ... is among the five likeliest (of fewer classes, all are)     | higher |
| `balanced_accuracy` | mean over classes of the share that is found (recall)           | higher |
| `macro_f1`          | mean over classes of the harmonic mean of precision and recall  | higher |
| `auroc`             | mean over classes of the area under the ROC, one against rest   | higher |
| `kappa`             | Cohen's kappa, quadratic weights: of classes that have an order | higher |
| `log_loss`          | mean of -log of the probability of the true class               | lower  |

The values are scikit-learn's (tests hold that), computed from one confusion matrix and one sort: a
tenth of a percent of an epoch instead of the tenth that scikit-learn takes of a short one. Means
are over the classes that have images; an area needs images of other classes too, and is .5 where
there are none; kappa is 0 where it is 0 / 0.
"""

from __future__ import annotations

import numpy as np

from foretune.errors import BadInput, near

GOALS = {
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
    "macro_f1": "maximize",
    "auroc": "maximize",
    "top5": "maximize",
    "kappa": "maximize",
    "log_loss": "minimize",
}
PART = "valid_"  # of the task, by which a search goes


def column(metric: str) -> str:
    """The column of an epoch's row that a metric is in. Raises `BadInput` for one that is none."""
    if metric not in GOALS:
        raise BadInput(
            f"metric {metric!r} is not known{near(metric, GOALS)}; one of {', '.join(GOALS)} would "
            "be right"
        )
    return PART + metric


def class_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """The metrics that go by class, of labels (N,) and scores (N, classes), higher is likelier."""
    classes = scores.shape[1]
    counts = confusion(labels, scores.argmax(1), classes)
    right = np.diag(counts).astype(float)
    true, said = counts.sum(1).astype(float), counts.sum(0).astype(float)
    seen, either = true > 0, true + said > 0
    return {
        "balanced_accuracy": float((right[seen] / true[seen]).mean()),
        "macro_f1": float((2 * right[either] / (true + said)[either]).mean()),
        "auroc": auroc(labels, scores),
        "kappa": kappa(counts),
    }


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many images of class i were taken for class j, (classes, classes)."""
    pairs = labels.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean over classes of the area under the ROC of one class against the rest: the share of pairs
    that are in order, by ranks (Hanley and McNeil, 1982), ties counting half.
    """
    positive = np.bincount(labels, minlength=scores.shape[1]).astype(float)
    negative = len(labels) - positive
    both = (positive > 0) & (negative > 0)
    if not both.any():
        return 0.5
    own = np.zeros(scores.shape[1])  # sums of the ranks of a class's own images
    # not by scipy.stats, whose import is a quarter of a worker's start
    for c in np.flatnonzero(both):
        ordered, mine = np.sort(scores[:, c]), scores[labels == c, c]
        below, upto = (np.searchsorted(ordered, mine, side) for side in ("left", "right"))
        own[c] = (below + upto + 1).sum() / 2
    pairs = own - positive * (positive + 1) / 2
    return float((pairs[both] / (positive * negative)[both]).mean())


def kappa(counts: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights (Cohen, 1968) of a confusion matrix, over the classes
    that occur in it.
    """
    kept = (counts.sum(0) + counts.sum(1)) > 0
    counts = counts[np.ix_(kept, kept)]
    order = np.arange(len(counts))
    weight = (order[:, None] - order) ** 2
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    by_chance = (weight * expected).sum()
    return float(1 - (weight * counts).sum() / by_chance) if by_chance > 0 else 0.0
