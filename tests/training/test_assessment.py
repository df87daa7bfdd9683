"""Metrics with their standard errors, classes and mistakes, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from foretune.errors import BadInput
from foretune.training.assessment import Assessment
from foretune.training.metrics import class_metrics
from foretune.training.noise import paired, unpaired

NAMES = ("a", "b", "c")


def drawn(count: int = 300, seed: int = 0) -> Assessment:
    """A classifier that is right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    scores = rng.random((count, 3)) + 0.8 * np.eye(3)[labels] * rng.random((count, 1))
    return Assessment(labels, (scores / scores.sum(1, keepdims=True)).astype(np.float32), NAMES)


def test_classes_are_scikit_learns() -> None:
    found = drawn()
    expected = precision_recall_fscore_support(found.labels, found.predicted, labels=[0, 1, 2])
    for k, one in enumerate(found.classes):
        assert one.name == NAMES[k]
        assert (one.precision, one.recall, one.f1, one.images) == pytest.approx(
            tuple(column[k] for column in expected)
        )


def test_a_class_that_is_never_said_and_one_without_images_have_zeros() -> None:
    found = Assessment(np.array([0, 0]), np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32), NAMES)
    assert [(one.precision, one.recall, one.f1, one.images) for one in found.classes] == [
        (1.0, 0.5, pytest.approx(2 / 3), 2), (0.0, 0.0, 0.0, 0), (0.0, 0.0, 0.0, 0),
    ]  # fmt: skip


def test_standard_errors_are_the_spread_over_fresh_images() -> None:
    """What a standard error means: 300 other draws of images spread by that much. A binomial one is
    exact but for the drawn share, a bootstrap one within its own noise."""
    others = []
    for seed in range(1, 201):
        other = drawn(seed=seed)
        own = other.probabilities[np.arange(300), other.labels]
        values = {"accuracy": other.right.mean(), "log_loss": -np.log(own).mean()}
        others.append(values | class_metrics(other.labels, other.probabilities))
    one = drawn().metrics
    for name in ("accuracy", "macro_f1", "auroc", "balanced_accuracy", "log_loss", "kappa"):
        spread = np.std([values[name] for values in others])
        assert one[name].error == pytest.approx(spread, rel=0.3), name


def test_accuracy_has_the_binomial_error() -> None:
    found = drawn()
    share = float((found.predicted == found.labels).mean())
    assert found.metrics["accuracy"].value == pytest.approx(share)
    assert found.metrics["accuracy"].error == pytest.approx((share * (1 - share) / 300) ** 0.5)
    assert found.metrics["top5"].value == 1  # three classes: all are among the five


def test_the_worst_mistakes_are_the_surest() -> None:
    probabilities = np.array(
        [[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.05, 0.95, 0], [0, 0, 1]], dtype=np.float32
    )
    found = Assessment(np.array([0, 0, 0, 2]), probabilities, NAMES)
    assert [(one.row, one.label, one.predicted) for one in found.worst(5)] == [(2, 0, 1), (1, 0, 1)]
    assert found.confused(3) == [("a", "b", 2)]
    assert found.confusion.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_it_is_kept_and_a_damaged_file_is_none(tmp_path) -> None:
    found = drawn()
    found.save(tmp_path / "a.npz")
    again = Assessment.load(tmp_path / "a.npz")
    assert again is not None and again.metrics == found.metrics and again.class_names == NAMES
    (tmp_path / "a.npz").write_bytes(b"PK damaged")
    assert Assessment.load(tmp_path / "a.npz") is None
    assert Assessment.load(tmp_path / "none.npz") is None


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match=r"shape \(2, 3\)"):
        Assessment(np.array([0, 1]), np.zeros((2, 2), np.float32), NAMES)


def test_mcnemar_goes_by_the_images_on_which_two_disagree() -> None:
    first = np.array([True] * 90 + [False] * 10)
    second = first.copy()
    second[:6] = False  # six that only the first recognises: p = 2 / 2**6 = .03
    found = paired(first, second)
    assert found.value == pytest.approx(0.06) and not found.tied
    second[5] = True  # five: p = 2 / 2**5 = .06
    assert paired(first, second).tied
    assert paired(first, first).tied and paired(first, first).margin == 0


def test_two_proportions() -> None:
    """.70 and .65 of 300: sqrt(.21 / 300 + .2275 / 300) = .0382, of which 1.96 are .0748."""
    found = unpaired(0.70, 0.65, 300)
    assert found.margin == pytest.approx(0.0748, abs=2e-4) and found.tied
    assert not unpaired(0.70, 0.65, 3000).tied
