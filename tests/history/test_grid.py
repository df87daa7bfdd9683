"""The full grid of a meta-dataset, and which tasks may be past of which."""

from collections.abc import Callable

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.grid import full_grid, past_of
from foretune.history.meta_dataset import MetaDataset


def with_about(meta: MetaDataset, **about: object) -> MetaDataset:
    return MetaDataset(
        meta.space, meta.config_ids, meta.configs, meta.rows, {**meta.about, **about}
    )


@pytest.fixture
def small(table: Callable[..., MetaDataset]) -> MetaDataset:
    """Four tasks x 6 configurations x 3 epochs with clear differences; t0 and t1 of one source."""
    values = np.random.default_rng(0).uniform(0.2, 0.9, (4, 6, 1)) * np.array([0.6, 0.8, 1.0])
    return with_about(table(values), sources={"t0": "s", "t1": "s", "t2": "u"}, name="light")


def without(meta: MetaDataset, cells: set[tuple[str, int]]) -> MetaDataset:
    """`meta` without the last epoch of some cells."""
    frame = meta.table
    gone = [
        (t, c) in cells and e == meta.max_epoch
        for t, c, e in zip(frame["task"], frame["config_id"], frame["epoch"], strict=True)
    ]
    return MetaDataset.build(
        meta.space,
        dict(zip(meta.config_ids, meta.configs, strict=True)),
        frame[~np.array(gone)],
        **meta.about | {"tasks": meta.tasks, "max_epoch": 3},
    )


def test_the_full_grid_of_a_full_table_is_the_table(small: MetaDataset) -> None:
    grid = full_grid(small)
    assert (grid.tasks, grid.config_ids) == (small.tasks, small.config_ids)
    np.testing.assert_array_equal(grid.Y(), small.Y())


def test_the_full_grid_leaves_out_what_lacks_most(small: MetaDataset) -> None:
    """t3 has 2 of 6 configurations: 3 tasks x 5 configurations beat 4 x 2; one cell of t1 is
    missing.
    """
    partial = without(small, {("t3", c) for c in (0, 10, 20, 30)} | {("t1", 50)})
    grid = full_grid(partial)
    assert grid.tasks == ["t0", "t1", "t2"]
    assert grid.config_ids == [0, 10, 20, 30, 40]
    assert not np.isnan(grid.Y()).any()


def test_a_diverged_cell_is_a_finished_one(table: Callable[..., MetaDataset]) -> None:
    values = np.full((2, 3, 3), 0.5)
    values[0, 1, 1:] = np.nan
    assert full_grid(table(values)).config_ids == [0, 10, 20]


def test_no_grid(small: MetaDataset) -> None:
    with pytest.raises(BadInput, match="no two tasks that share"):
        full_grid(without(small, {(t, c) for t in ("t0", "t1", "t2") for c in small.config_ids}))


def test_tasks_of_one_source_are_never_each_others_past(small: MetaDataset) -> None:
    assert past_of(small) == {
        "t0": ["t2", "t3"],
        "t1": ["t2", "t3"],
        "t2": ["t0", "t1", "t3"],
        "t3": ["t0", "t1", "t2"],
    }
