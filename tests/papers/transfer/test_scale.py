"""Small scale against large: which cells are trained in which order, and what is made of them."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from foretune.history.join import learning_settings
from foretune.history.meta_dataset import MetaDataset
from foretune.shipped import LIGHT
from foretune.space.catalogue import transfer_pool
from foretune.tasks.task import Task
from papers.light2.subtasks import configurations
from papers.transfer import scale


def task(name: str) -> Task:
    images = np.arange(5 * 8 * 8 * 3, dtype=np.uint8).reshape(5, 8, 8, 3)
    split = np.array([0, 0, 0, 1, 2], dtype=np.uint8)
    return Task(name, images, np.array([0, 1, 0, 1, 0]), ("a", "b"), split)


def test_small_is_what_the_shipped_history_was_trained_with() -> None:
    shipped = MetaDataset.load(LIGHT)
    ours = learning_settings(asdict(scale.SMALL))
    assert {k: ours[k] for k in shipped.about["settings"]} == shipped.about["settings"]
    assert set(scale.TASKS) <= set(shipped.tasks)
    assert all(config in transfer_pool() for config in configurations())
    # as many steps within a sixth
    small, large = 400 / 32 * scale.SMALL.max_epoch, 1200 / 32 * scale.LARGE.max_epoch
    assert abs(large / small - 1) < 1 / 6


def test_half_of_the_configurations_come_first_and_what_is_there_is_not_trained_again(
    tmp_path: Path,
) -> None:
    tasks = [task(name) for name in scale.TASKS]
    opened = scale.opened(tmp_path, "large", tasks)
    blocks = scale.missing(opened, 12)
    assert {block.task for block in blocks} == set(scale.TASKS)
    assert sum(len(block.config_ids) for block in blocks) == 36
    for block in blocks:  # one depth each
        assert len({configurations()[i]["finetune"] for i in block.config_ids}) == 1
    done = blocks[0]
    rows = [
        {"task": done.task, "config_id": done.config_ids[0], "seed": 0, "epoch": e}
        | {"valid_accuracy": 0.5}
        for e in (1, 2, 3)
    ]
    opened.add(rows)
    opened.save()
    again = scale.missing(scale.opened(tmp_path, "large", tasks), 24)
    assert sum(len(block.config_ids) for block in again) == 3 * 24 - 1
    assert MetaDataset.load(tmp_path / "large").about["images"] == dict.fromkeys(scale.TASKS, 1)


def test_agreement_is_of_the_configurations_that_both_have() -> None:
    large = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, math.nan, 0.3])
    same = scale.agreement(large, large - 0.2, "small")
    assert same["configurations_small"] == 7 and same["spearman_small"] == pytest.approx(1)
    assert same["regret_small"] == 0 and same["spearman_error_small"] == pytest.approx(0)
    other = large.copy()
    other[[0, 1]] = math.nan, 0.1  # its first is the third, of 0.7; the best that is left is 0.8
    found = scale.agreement(large, other, "x")
    assert found["regret_x"] == pytest.approx(0.1) and found["configurations_x"] == 6
    assert scale.agreement(large, np.full(8, math.nan), "x") == {}


def test_noise_lowers_the_ceiling() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = np.linspace(0.2, 0.9, 12), np.linspace(0.60, 0.62, 12)
    assert scale.ceiling(wide, 400, rng) > 0.95 > scale.ceiling(narrow, 400, rng)


def test_what_was_not_trained_yet_is_left_out() -> None:
    row = scale.row_of(
        "t", np.linspace(0.4, 0.9, 24), np.full(24, math.nan), np.linspace(0.4, 0.9, 24), 400
    )
    assert "spearman_small" not in row and row["regret_shipped"] == 0.0
    assert row["spread"] == pytest.approx(0.25)
