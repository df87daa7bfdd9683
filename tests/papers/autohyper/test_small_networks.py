"""The small networks and their trials."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from foretune.errors import BadInput
from foretune.tasks.task import Task
from foretune.training.paper_optimizers import SLS, SelfTuning
from foretune.training.spectral import network_rank
from papers.autohyper.small_networks import NETWORKS, Data, Fleet, Rule, SmallTrial, network


def easy(n=150, classes=3):
    labels = np.arange(n) % classes
    images = np.zeros((n, 20, 20, 3), dtype=np.uint8)
    images[np.arange(n), :, :, labels % 3] = 200 - 20 * labels[:, None, None]
    images += np.random.default_rng(0).integers(0, 50, size=images.shape, dtype=np.uint8)
    split = np.repeat([0, 1, 2], n // 3).astype(np.uint8)
    return Data.of(Task("easy", images, labels.astype(np.int64), tuple("abcde"[:classes]), split))


def test_networks_have_the_stated_sizes_and_start_as_noise():
    for name, weights in zip(NETWORKS, (17_869, 19_789, 5_525), strict=True):
        made = network(name, 5, seed=1)
        assert made(torch.zeros(2, 3, 12, 12)).shape == (2, 5)
        assert sum(p.numel() for p in made.parameters()) == weights
        assert network_rank(made) == 1.0
        assert all(
            torch.equal(a, b)
            for a, b in zip(made.parameters(), network(name, 5, seed=1).parameters(), strict=True)
        )
    with pytest.raises(BadInput, match="vgg"):
        network("vgg", 5, 0)


def test_data_is_normalised_by_the_train_part():
    data = easy()
    assert data.images["train"].shape == (50, 3, 12, 12)
    assert data.images["train"].mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.01), ("adas", 0.05), ("sls", 1.0)])
def test_a_trial_learns_and_repeats_itself(optimizer, rate):
    data = easy()
    fleets = [Fleet([SmallTrial(data, "plain", optimizer, rate, seed=3)]) for _ in range(2)]
    rows = [[fleet.train_epoch()[0] for _ in range(5)] for fleet in fleets]
    assert rows[0] == rows[1]
    assert rows[0][-1]["train_loss"] < 0.5 * rows[0][0]["train_loss"]
    assert fleets[0].trials[0].accuracy("test") > 0.6  # by chance: 0.33
    assert 0 <= rows[0][-1]["zero_share"] <= 1
    assert rows[0][-1]["zero_share"] == network_rank(fleets[0].trials[0].network)


def by_itself(trial):
    """An epoch of a trial's own network, without any fleet."""
    trial.epoch += 1
    x, y = trial.data.images["train"], trial.data.labels["train"]
    trial.network.train()
    total = 0.0
    for rows in trial.order():
        loss = F.cross_entropy(trial.network(x[rows]), y[rows])
        trial.optimizer.zero_grad()
        loss.backward()
        total += loss.item() * len(rows)
        if isinstance(trial.optimizer, SLS):
            trial.optimizer.step(lambda rows=rows: F.cross_entropy(trial.network(x[rows]), y[rows]))
        else:
            trial.optimizer.step()
    if isinstance(trial.optimizer, SelfTuning):
        trial.optimizer.end_epoch()
    return total / sum(map(len, trial.order()))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("optimizer", "rate"), [("adam", 1e-3), ("adagrad", 0.01), ("adas", 0.02), ("sls", 0.1)]
)
def test_in_a_fleet_trials_do_what_they_do_alone(name, optimizer, rate):
    three, five = easy(), easy(classes=5)
    trials = [
        SmallTrial(d, name, optimizer, r, seed=s)
        for d, r, s in ((three, rate, 1), (five, rate / 3, 2))
    ]
    alone = [
        SmallTrial(d, name, optimizer, r, seed=s)
        for d, r, s in ((three, rate, 1), (five, rate / 3, 2))
    ]
    rows = Fleet(trials).train_epoch()
    assert [row["train_loss"] for row in rows] == pytest.approx(
        [by_itself(t) for t in alone], rel=2e-3
    )
    for together, apart in zip(trials, alone, strict=True):
        for ours, theirs in zip(
            together.network.parameters(), apart.network.parameters(), strict=True
        ):
            assert ours.shape == theirs.shape
            assert torch.allclose(ours, theirs, atol=2e-2)


def test_a_trial_goes_on_in_another_fleet():
    data = easy()
    whole, parted = (
        [SmallTrial(data, "plain", "adam", 0.003, seed=s) for s in (0, 1)] for _ in range(2)
    )
    fleet = Fleet(whole)
    fleet.train_epoch()
    expected = fleet.train_epoch()[1]["train_loss"]
    Fleet(parted).train_epoch()
    assert Fleet(parted[1:]).train_epoch()[0]["train_loss"] == pytest.approx(expected, rel=1e-3)


def test_a_rate_beyond_reason_diverges_and_leaves_the_others_alone():
    data = easy()
    fleet = Fleet(
        [SmallTrial(data, "plain", "adam", 1e30), SmallTrial(data, "plain", "adam", 0.01)]
    )
    for _ in range(4):
        lost, well = fleet.train_epoch()
    assert (
        np.isnan(lost["train_loss"]) and np.isnan(lost["zero_share"]) and fleet.trials[0].diverged
    )
    assert well["train_loss"] < 0.5 and not fleet.trials[1].diverged
    assert fleet.trials[0].accuracy("test") == pytest.approx(1 / 3)


def test_a_fleet_has_one_architecture():
    data = easy()
    with pytest.raises(BadInput, match="share network"):
        Fleet([SmallTrial(data, "plain", "adam", 0.1), SmallTrial(data, "residual", "adam", 0.1)])


def test_labels_say_beta_decay_and_schedule():
    assert Rule.of("adam") == Rule("adam", {})
    assert Rule.of("adas:0.975+decay") == Rule("adas", {"beta": 0.975, "weight_decay": 5e-4})
    assert Rule.of("sgd+decay+step") == Rule("sgd", {"weight_decay": 5e-4}, True)
    # the paper's figure 10: 250 epochs, halved every 25
    assert [Rule.of("sgd+step").factor(e, 250) for e in (1, 25, 26, 51)] == [1, 1, 0.5, 0.25]
    for label, text in (
        ("adamw", "NAME"),
        ("adam:0.9", "adas alone has a beta"),
        ("adas+step", "chooses its rates"),
        ("adam+lr", "NAME"),
    ):
        with pytest.raises(BadInput, match=text):
            Rule.of(label)


def test_a_label_reaches_the_optimizer_and_its_schedule():
    data = easy()
    adas = SmallTrial(data, "plain", "adas:0.95+decay", 0.02)
    assert {(g["beta"], g["weight_decay"]) for g in adas.optimizer.param_groups} == {(0.95, 5e-4)}
    steps = SmallTrial(data, "plain", "sgd+step", 0.1, epochs=20)
    constant = SmallTrial(data, "plain", "sgd", 0.1, epochs=20)
    rates, fleet = [], Fleet([steps, constant])
    for _ in range(5):
        fleet.train_epoch()
        rates.append(tuple(t.optimizer.param_groups[0]["lr"] for t in (steps, constant)))
    assert rates == [(0.1, 0.1), (0.1, 0.1), (0.05, 0.1), (0.05, 0.1), (0.025, 0.1)]
    assert steps.rows[:2] != [] and steps.rows[-1] != constant.rows[-1]
