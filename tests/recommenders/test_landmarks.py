"""Landmarks: what each of them says of features whose answer is known."""

import numpy as np
import pytest

from foretune.recommenders import landmarks
from foretune.recommenders.landmarks import (
    NAMES,
    above_chance,
    between_share,
    effective_dimension,
    folds,
    measure,
    neighbours,
    probe,
)
from foretune.tasks.task import Task


def clouds(apart: float, classes: int = 3, each: int = 40, seed: int = 0):
    """Classes around points that lie `apart` from each other."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    order = rng.permutation(len(labels))
    return (apart * np.eye(classes, 6)[labels] + rng.normal(size=(len(labels), 6)))[order], labels[
        order
    ]


def test_classes_that_lie_apart_are_told_apart_and_others_not():
    x, labels = clouds(20.0)
    assert probe(x, x, labels) == neighbours(x, labels) == 1
    assert between_share(x, labels) > 0.4
    x, labels = clouds(0.0, each=200)
    assert abs(probe(x, x, labels)) < 0.15 and abs(neighbours(x, labels)) < 0.15
    assert between_share(x, labels) < 0.02


def test_the_probe_is_judged_on_images_that_it_was_not_trained_on():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 200)), rng.integers(0, 2, 60)  # separable by chance
    assert probe(x, x, labels) < 0.4


def test_what_is_shown_in_place_of_the_images_counts():
    x, labels = clouds(20.0)
    assert probe(x, -x, labels) < 0.2


def test_every_fold_has_every_class():
    labels = np.repeat([0, 1, 2], [40, 9, 4])
    by_fold = [np.unique(labels[folds(labels) == f]) for f in range(landmarks.FOLDS)]
    assert all(len(classes) == 3 for classes in by_fold)


def test_chance_is_the_commonest_class():
    labels = np.repeat([0, 1], [90, 10])
    assert above_chance(0.9, labels) == 0 and above_chance(1.0, labels) == 1


def test_the_effective_dimension_counts_directions_of_equal_variance():
    rng = np.random.default_rng(0)
    flat = np.zeros((1000, 5))
    flat[:, :3] = rng.normal(size=(1000, 3))
    assert effective_dimension(flat) == pytest.approx(3, rel=0.02)
    assert effective_dimension(np.ones((10, 4))) == 1


def test_a_task_is_described_from_its_train_part_alone(monkeypatch):
    monkeypatch.setattr(
        landmarks, "features", lambda pixels: [pixels.flatten(1).numpy().astype(float)] * 3
    )
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 30)
    images = rng.integers(0, 100, (60, 16, 16, 3)).astype(np.uint8)
    images[labels == 1] += 100
    split = np.where(np.arange(60) < 40, 0, 1).astype(np.uint8)
    first = measure(Task("a", images, labels, ("x", "y"), split))
    assert len(first) == len(NAMES) and np.isfinite(first).all()
    assert first[0] == first[3] == 1  # bright and dark
    assert first[-1] == pytest.approx(np.log(20))
    images = images.copy()
    images[40:] = 0
    assert (measure(Task("b", images, labels, ("x", "y"), split)) == first).all()
