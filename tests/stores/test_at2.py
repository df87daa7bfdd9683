"""The layout that the AT2 authors' releases share."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.stores.at2 import known_pairs, long_table, read_release


def test_long_table_counts_epochs_from_the_first():
    table = long_table(
        {0: {"T": {1: np.array([0.5, 0.75]), 0: np.array([0.25, np.nan])}}},
        "acc",
        first_epoch=0,
    )
    assert table[["config_id", "epoch"]].to_numpy().tolist() == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
    ]
    np.testing.assert_array_equal(table["acc"], [0.25, np.nan, 0.5, 0.75])


def test_pairs_with_a_missing_task_are_left_out():
    pairs = {"a": ["b", "c"], "d": ["a"]}
    assert known_pairs(pairs, ["a", "b", "c"]) == [{"train": ["b", "c"], "test": "a"}]


@pytest.mark.parametrize("profiles", [[1, 2], {0: {"T": {}}}, {0: {"T": {0: np.zeros((2, 2))}}}])
def test_other_layouts_are_refused(tmp_path: Path, profiles):
    (tmp_path / "configs.pkl").write_bytes(pickle.dumps({0: {}}))
    (tmp_path / "profiles.pkl").write_bytes(pickle.dumps(profiles))
    with pytest.raises(BadInput, match=r"profiles\.pkl"):
        read_release(tmp_path)
