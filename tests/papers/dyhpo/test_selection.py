"""What a method spent its epochs on, on a table small enough to count by hand."""

import numpy as np
import pandas as pd
import pytest

from papers.dyhpo.selection import depths, late, profile, top_share


def test_top_share_has_at_least_one():
    assert top_share(np.array([0.1, 0.9, np.nan, 0.5])).tolist() == [False, True, False, False]
    assert top_share(np.arange(200.0)).sum() == 2


def test_late_bloomers_are_the_good_ones_that_were_bad():
    curves = np.array([[0.9, 0.1, 0.1], [0.5, 0.9, 0.2], [0.1, 0.2, 0.9], [0.2, 0.3, 0.3]])
    np.testing.assert_allclose(late(curves, np.full(4, 3)), [0.0, 1.0, 1.0])
    np.testing.assert_allclose(late(curves, np.array([3, 3, 1, 1])), [0.0, np.nan, np.nan])
    falling = np.array([[0.9, 0.9], [0.5, 0.5], [0.1, 0.1]])
    np.testing.assert_allclose(late(falling, np.full(3, 2)), [0.0, 0.0])


@pytest.fixture
def runs() -> pd.DataFrame:
    """One run: configuration 0 to epoch 3, configuration 20 to epoch 1 (ids as the table fixture
    stores them).
    """
    rows = [(1, 0, 1, 1), (2, 20, 1, 2), (3, 0, 3, 4)]
    frame = pd.DataFrame(rows, columns=["step", "config_id", "epoch", "spent"])
    return frame.assign(method="m", task="t0", seed=0)


def test_depths(runs, table):
    meta = table(np.zeros((1, 4, 3)))
    assert depths(runs, meta)["m", "t0", 0].tolist() == [3, 0, 1, 0]
    assert depths(runs, meta, budget=2)["m", "t0", 0].tolist() == [1, 0, 1, 0]


def test_profile(runs, table):
    values = np.zeros((1, 4, 3))
    values[0, :, 2] = [1.0, 0.75, 0.5, 0.0]  # best values; configuration 0 is the top
    out = profile(runs, table(values)).set_index(["method", "epoch"])
    np.testing.assert_allclose(out.loc["m", "trained"], [2, 1, 1])
    np.testing.assert_allclose(out.loc["m", "precision"], [0.5, 1.0, 1.0])
    np.testing.assert_allclose(out.loc["m", "selected_regret"], [0.25, 0.0, 0.0])
    np.testing.assert_allclose(out.loc["all configurations", "precision"], [0.25] * 3)
    np.testing.assert_allclose(
        out.loc["all configurations", "selected_regret"], [(0 + 0.25 + 0.5 + 1) / 4] * 3
    )
