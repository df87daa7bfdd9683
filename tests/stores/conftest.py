"""Comparing an imported table with the published one."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from foretune.history.meta_dataset import KEYS, MetaDataset


def same_table(imported: Path, published: Path) -> MetaDataset:
    """Same space, configurations and, on the imported tasks, the very same values."""
    have, want = MetaDataset.load(imported), MetaDataset.load(published)
    assert have.space == want.space
    assert have.configs == want.configs and have.config_ids == want.config_ids
    assert (have.metric, have.goal, have.max_epoch) == (
        want.metric,
        want.goal,
        want.max_epoch,
    )
    rows = want.table[want.table["task"].isin(have.tasks)].sort_values(KEYS, ignore_index=True)
    got = have.table.sort_values(KEYS, ignore_index=True)
    pd.testing.assert_frame_equal(
        got[rows.columns], rows.astype({"seed": got["seed"].dtype}), check_exact=True
    )
    return have


@pytest.fixture
def assert_same_table() -> Callable[[Path, Path], MetaDataset]:
    """`same_table(imported, published)`."""
    return same_table
