"""Hand-made features against numbers computed by hand."""

import numpy as np
import pytest

from foretune.recommenders.metadata import NAMES, metadata, standardise
from foretune.tasks.task import Task


def test_features_of_a_task_made_by_hand() -> None:
    images = np.zeros((8, 4, 4, 3), np.uint8)
    images[4:, :, :, 0] = 255  # half of them red
    images[:, ::2, :, 1] = 255  # green stripes
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    split = np.array([0, 0, 0, 0, 0, 0, 1, 2], np.uint8)
    images[6:] = 77  # not of the train part
    found = dict(zip(NAMES, metadata(Task("t", images, labels, ("a", "b"), split)), strict=True))
    assert found["log images"] == pytest.approx(np.log(6))
    assert found["log classes"] == pytest.approx(np.log(2))
    assert found["log images per class"] == pytest.approx(np.log(3))
    assert found["class entropy"] == pytest.approx(np.log(2))
    assert found["red"] == pytest.approx(2 / 6)
    assert found["green"] == pytest.approx(0.5)
    assert found["blue"] == found["blue deviation"] == 0
    assert found["red deviation"] == pytest.approx(np.sqrt(2 / 6 * 4 / 6), rel=1e-5)
    # down: a third each step; across: none
    assert found["roughness"] == pytest.approx(1 / 6, rel=1e-5)
    assert found["contrast"] == pytest.approx(1 / 6, rel=1e-5)
    assert found["log side"] == pytest.approx(np.log(4))


def test_standardising_leaves_constant_features_silent() -> None:
    centre, scale = standardise(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert centre.tolist() == [2, 5] and scale.tolist() == [1, 1]
