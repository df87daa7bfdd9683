"""The small networks and their trials."""

import numpy as np
import pytest
import torch

from foretune.errors import BadInput
from foretune.evaluation.small_networks import NETWORKS, Data, SmallTrial, network
from foretune.images import Task
from foretune.spectral import network_rank


def easy(n=150):
    labels = np.arange(n) % 3
    images = np.zeros((n, 20, 20, 3), dtype=np.uint8)
    images[np.arange(n), :, :, labels] = 200
    images += np.random.default_rng(0).integers(0, 50, size=images.shape, dtype=np.uint8)
    split = np.repeat([0, 1, 2], n // 3).astype(np.uint8)
    return Data.of(Task("easy", images, labels.astype(np.int64), ("r", "g", "b"), split))


def test_networks_have_the_stated_sizes_and_start_as_noise():
    for name, weights in zip(NETWORKS, (17_869, 19_789, 5_525), strict=True):
        made = network(name, 5, seed=1)
        assert made(torch.zeros(2, 3, 16, 16)).shape == (2, 5)
        assert sum(p.numel() for p in made.parameters()) == weights
        assert network_rank(made) == 1.0
        assert all(
            torch.equal(a, b) for a, b in zip(made.parameters(), network(name, 5, seed=1).parameters(), strict=True)
        )
    with pytest.raises(BadInput, match="vgg"):
        network("vgg", 5, 0)


def test_data_is_normalised_by_the_train_part():
    data = easy()
    assert data.images["train"].shape == (50, 3, 16, 16)
    assert data.images["train"].mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.01), ("adas", 0.05), ("sls", 1.0)])
def test_a_trial_learns_and_repeats_itself(optimizer, rate):
    data = easy()
    trials = [SmallTrial(data, "plain", optimizer, rate, seed=3) for _ in range(2)]
    rows = [[t.train_epoch() for _ in range(5)] for t in trials]
    assert rows[0] == rows[1]
    assert rows[0][-1]["train_loss"] < 0.5 * rows[0][0]["train_loss"]
    assert trials[0].accuracy("test") > 0.8
    assert 0 <= rows[0][-1]["zero_share"] <= 1


def test_a_rate_beyond_reason_diverges_or_learns_nothing():
    trial = SmallTrial(easy(), "plain", "adam", 1e30)
    assert np.isnan(trial.train_epoch()["train_loss"])
