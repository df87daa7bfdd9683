"""Metrics are scikit-learn's."""

import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn import metrics as theirs

from foretune.errors import BadInput
from foretune.training.metrics import GOALS, class_metrics, column


def scores_of(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (count,) that all occur, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    logits = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, np.round(shares, 2)  # ties


@pytest.mark.parametrize("classes", [2, 3, 26])
def test_as_scikit_learn_has_them(classes: int) -> None:
    labels, shares = scores_of(120, classes)
    predicted, found = shares.argmax(1), class_metrics(labels, shares)
    binary = [theirs.roc_auc_score(labels == c, shares[:, c]) for c in range(classes)]
    assert found == pytest.approx(
        {
            "balanced_accuracy": theirs.balanced_accuracy_score(labels, predicted),
            "macro_f1": theirs.f1_score(labels, predicted, average="macro"),
            "auroc": np.mean(binary),
            "kappa": theirs.cohen_kappa_score(labels, predicted, weights="quadratic"),
        }
    )


def test_imbalance_shows_where_accuracy_hides_it() -> None:
    """95 of one class, 5 of the other, all taken for the first."""
    labels = np.repeat([0, 1], [95, 5])
    found = class_metrics(labels, np.tile([0.9, 0.1], (100, 1)))
    assert found["balanced_accuracy"] == 0.5 and found["auroc"] == 0.5 and found["kappa"] == 0.0
    assert found["macro_f1"] == pytest.approx((2 * 0.95 / 1.95 + 0) / 2)


def test_classes_without_images_are_no_part_of_a_mean() -> None:
    labels, shares = np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.7, 0.3, 0], [0.2, 0.8, 0]])
    found = class_metrics(labels, shares)
    assert found["balanced_accuracy"] == found["macro_f1"] == found["auroc"] == 1.0
    assert class_metrics(np.zeros(3, dtype=int), shares)["auroc"] == 0.5


def test_a_look_costs_little() -> None:
    """300 images of 26 classes take 0.02 s of an epoch at the very least."""
    labels, shares = scores_of(300, 26)
    spent = []
    for _ in range(20):
        began = time.process_time()
        class_metrics(labels, shares)
        spent.append(time.process_time() - began)
    assert np.median(spent) < 0.005


def test_names() -> None:
    assert column("macro_f1") == "valid_macro_f1" and GOALS["log_loss"] == "minimize"
    with pytest.raises(BadInput, match=r"'macro-f1'.*did you mean macro_f1"):
        column("macro-f1")


def test_a_worker_starts_without_scipy_stats() -> None:
    """Its import is a quarter of what a worker begins with, before it trains."""
    code = "import sys, foretune.training.trial; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
