"""The benchmark of rare classes: how unlike in number its classes are, and what it compares."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foretune.tasks.task import Task

FILE = Path(__file__).resolve().parents[2] / "bench" / "imbalance.py"  # bench/ is no package
SPEC = importlib.util.spec_from_file_location("imbalance", FILE)
assert SPEC is not None and SPEC.loader is not None
imbalance = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(imbalance)


def test_every_part_is_as_unlike_in_number_as_it_says() -> None:
    labels = np.arange(12_500) % 5
    images = labels[:, None, None, None].astype(np.uint8) * np.ones((1, 2, 2, 3), np.uint8)
    whole = Task("w", images, labels, tuple("abcde"), np.arange(12_500).astype(np.uint8) % 3)
    task = imbalance.imbalanced(whole)
    for part, most in zip(("train", "valid", "test"), imbalance.LARGEST, strict=True):
        pictures, own = task.part(part)
        counts = np.bincount(own)
        assert counts[0] == most and counts[-1] == most // imbalance.RATIO
        assert (np.diff(counts) < 0).all()
        assert (pictures[:, 0, 0, 0] == own).all()


def test_each_goal_has_the_winner_of_its_own_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration 0 finds none of the rare class, configuration 1 all of it."""
    labels = np.array([0] * 8 + [1] * 2)
    said = {0: np.zeros(10, dtype=int), 1: np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])}
    taken: list[tuple[int, int]] = []

    def tested(task: object, config: object, epochs: int) -> tuple[np.ndarray, np.ndarray]:
        which = imbalance.configurations().index(config)  # type: ignore[arg-type]
        taken.append((which, epochs))
        return labels, np.eye(2)[said[which]]

    monkeypatch.setattr(imbalance, "tested", tested)
    monkeypatch.setattr(imbalance, "DRAWS", 50)
    seen = pd.DataFrame(
        {"config": [0, 0, 1], "epoch": [1, 2, 1], "valid_accuracy": [0.7, 0.8, 0.7],
         "valid_macro_f1": [0.4, 0.44, 0.69]}
    )  # fmt: skip
    task = Task("t", np.zeros((10, 2, 2, 3), np.uint8), labels, ("a", "b"), np.zeros(10, np.uint8))
    table = imbalance.compare(task, seen).set_index("goal")
    assert taken == [(0, 2), (1, 1)]
    assert table["test_recall_of_rarest"].tolist()[:2] == [0.0, 1.0]
    assert table.loc["accuracy", "test_accuracy"] == 0.8
    assert table.loc["macro_f1", "test_macro_f1"] > table.loc["accuracy", "test_macro_f1"]
    assert table.loc["standard error of the difference", "test_accuracy"] > 0.05
