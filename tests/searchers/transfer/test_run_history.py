"""Meta-datasets as runs."""

import numpy as np
import pytest
from run_world import SHARED, space_of

from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.transfer.run_history import final_scores, runs_of, stacked


def test_an_unfinished_run_counts_what_the_others_still_gained():
    Y = np.array([[0.1, 0.2, 0.5], [0.2, 0.4, 0.6], [0.0, 0.3, 0.5], [0.3, 0.4, np.nan]])
    Y = np.vstack([Y, [[0.2, np.nan, np.nan]]])
    scores = final_scores(Y, np.array([False] * 4 + [True]))
    # the complete ones gained .3, .2 and .2 after the second epoch
    assert scores[:4] == pytest.approx([0.5, 0.6, 0.5, 0.6])
    assert scores[4] == 0.5  # diverged: the worst


def test_without_complete_runs_an_unfinished_one_says_nothing():
    assert np.isnan(final_scores(np.array([[0.1, np.nan]]), np.array([False]))).all()


def test_settings_become_columns_beside_hyperparameters():
    space = space_of(SHARED)
    configs = dict(enumerate(space.sample(4, np.random.default_rng(0))))
    rows = [
        {"task": "a", "config_id": i, "seed": 0, "epoch": e, "loss": 1.0 - 0.1 * i * e}
        for i in configs
        for e in (1, 2)
    ]
    meta = MetaDataset.build(
        space, configs, rows, metric="loss", goal="minimize", settings={"image_size": 48, "x": []}
    )
    runs = runs_of(meta)
    assert list(runs["score"]) == pytest.approx([-1.0, -0.8, -0.6, -0.4])  # higher is better
    assert set(runs["image_size"]) == {48} and "x" not in runs
    both = stacked([runs, runs.drop(columns="dropout").assign(task="b", network="resnet")])
    assert len(both) == 8 and both["dropout"].isna().sum() == 4
