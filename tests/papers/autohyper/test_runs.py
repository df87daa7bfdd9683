"""What is missing follows from what is there, and runs are made once."""

import math

import numpy as np
import pytest

from foretune.tasks.task import Task
from papers.autohyper import runs as ar
from papers.autohyper.runs import Cell, RunKey, Runs, rounded
from papers.autohyper.small_networks import Data

CELL = Cell("a", "plain", "adam")


def falls(rate, at=5e-3):
    """A response that is 0.1 from about `at` on."""
    return 0.1 + 0.88 / (1 + (rate / at) ** 2)


def searched(path, cell=CELL, at=5e-3):
    """Runs in which the search of a cell has ended."""
    runs = Runs(path)
    while (rate := ar.walk(runs, cell).rate) is not None:
        z = falls(rate, at)
        runs.add(
            {
                ar.run_key(cell, "start", rate): {
                    "z": z,
                    "curve": [z] * 5,
                    "losses": [rate] * 5,
                    "seconds": 0.1,
                }
            }
        )
    return runs


def test_a_search_is_a_walk_over_the_starts_that_are_there(tmp_path):
    runs = searched(tmp_path / "runs.jsonl")
    chosen = ar.choices(runs, CELL)
    assert (
        5e-3 < chosen["autohyper"] < 2e-2 and chosen["suggested"] == 3e-4 and "random" not in chosen
    )
    again = Runs(tmp_path / "runs.jsonl")
    assert (
        ar.choices(again, CELL) == chosen
        and ar.walk(again, CELL).trained == ar.walk(runs, CELL).trained
    )


def test_random_search_takes_the_lowest_loss_of_as_many_trials(tmp_path):
    runs = searched(tmp_path / "runs.jsonl")
    rates = ar.random_rates(CELL, len(ar.walk(runs, CELL).trained))
    assert len(set(rates)) == len(rates) and all(1e-4 <= r <= 0.1 for r in rates)
    jobs = [
        j
        for j in ar.missing(runs, ["a"], 1)
        if j.kind == "random" and j.optimizer == "adam" and j.network == "plain"
    ]
    assert {j.rate for j in jobs} >= set(rates)
    for k, rate in enumerate(rates):
        loss = None if k == 2 else 1.0 + (k - 4) ** 2  # diverged
        runs.add({ar.run_key(CELL, "random", rate): {"losses": [0.1, loss], "seconds": 0.1}})
    assert ar.choices(runs, CELL)["random"] == rates[4]
    full = {
        j.rate
        for j in ar.missing(runs, ["a"], 3)
        if j.kind == "full" and (j.network, j.optimizer) == ("plain", "adam")
    }
    assert full == set(ar.choices(runs, CELL).values())


def test_the_first_things_asked_for_are_the_first_networks_searches(tmp_path):
    jobs = list(ar.missing(Runs(tmp_path / "runs.jsonl"), ["a", "b"], 3))
    first = jobs[: 2 * 6]
    assert {(j.task, j.network, j.optimizer) for j in first} == {
        (t, "plain", o) for t in "ab" for o in ar.OPTIMIZERS
    }
    assert {(j.kind, j.rate) for j in first} == {("start", 1e-4)}
    assert {
        j.network for j in jobs if j.kind == "start" and j.rate == 1e-4 and j.batch == 16
    } == set(ar.NETWORKS)
    fleet = ar.together(first)
    assert len(fleet) == 10 and "sls" not in {j.optimizer for j in fleet}


def test_other_optimizers_have_searches_of_their_own(tmp_path):
    runs = Runs(tmp_path / "runs.jsonl")
    labels = ("adas:0.9", "adas:0.95+decay", "sgd+step")
    jobs = list(ar.missing(runs, ["a"], 3, labels))
    assert {j.kind for j in jobs} == {"start", "full"} and {j.optimizer for j in jobs} == set(
        labels
    )
    suggested = {j.optimizer: j.rate for j in jobs if j.kind == "full"}
    assert suggested == {"adas:0.9": 0.03, "adas:0.95+decay": 0.03, "sgd+step": 0.1}


def test_fleets_are_of_one_kind_and_not_too_large():
    jobs = [RunKey("full", "a", "plain", "adam", seed=s, rate=0.1) for s in range(40)]
    assert len(ar.together([*jobs, jobs[0]])) == ar.LANES
    assert (
        len(ar.together([jobs[0], jobs[0], RunKey("full", "a", "residual", "adam", rate=0.1)])) == 1
    )
    bands = [RunKey("hyperband", t, "plain", "adam", seed=s) for t in "ab" for s in range(3)]
    assert ar.together(bands) == bands[:3]


def test_lines_are_kept_and_a_torn_one_is_left_out(tmp_path):
    runs = Runs(tmp_path / "runs.jsonl")
    job = RunKey("full", "a", "plain", "adam", rate=0.12345678901)
    runs.add({job: {"test": [0.5], "loss": math.nan}})
    assert runs.get(job)["rate"] == 0.123456789 and runs.get(job)["loss"] is None
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"kind": "torn')
    assert Runs(tmp_path / "runs.jsonl").get(job) == runs.get(job)
    assert len(Runs(tmp_path / "runs.jsonl").of("full", CELL)) == 1


@pytest.fixture
def tiny():
    """Three classes of colours."""
    labels = np.arange(96) % 3
    images = np.random.default_rng(0).integers(0, 60, size=(96, 12, 12, 3), dtype=np.uint8)
    images[np.arange(96), :, :, labels] += 150
    split = np.repeat([0, 1, 2], 32).astype(np.uint8)
    return Data.of(Task("a", images, labels.astype(np.int64), ("r", "g", "b"), split))


def test_runs_hold_what_their_kind_promises(tiny, monkeypatch):
    monkeypatch.setattr(ar, "FULL", 6)
    monkeypatch.setattr(ar, "CHECKS", (3, 6))
    start = RunKey("start", "a", "plain", "adam", rate=0.01)
    lost = RunKey("start", "a", "plain", "adam", rate=1e30)
    made = ar.make([start, lost], lambda name: tiny)
    assert (
        made[start]["z"] == pytest.approx(np.mean(made[start]["curve"]))
        and len(made[start]["losses"]) == 5
    )
    assert math.isnan(made[lost]["z"])
    drawn = RunKey("random", "a", "plain", "adam", rate=0.01)
    assert ar.make([drawn], lambda name: tiny)[drawn]["losses"] == pytest.approx(
        made[start]["losses"], rel=1e-4
    )
    lost = RunKey("random", "a", "plain", "adam", rate=1e30)
    assert ar.final_loss(rounded(ar.make([lost], lambda name: tiny)[lost])) == math.inf
    monkeypatch.setattr(ar, "LONG_EPOCHS", 7)
    long = RunKey("long", "a", "plain", "adam", rate=0.01)
    run = ar.make([long], lambda name: tiny)[long]
    assert len(run["valid"]) == len(run["curve"]) == 7 and run["valid"][-1] > 0.5
    full = RunKey("full", "a", "plain", "adam", rate=0.01)
    run = ar.make([full], lambda name: tiny)[full]
    assert len(run["test"]) == 2 and run["test"][1] > 0.5 and run["valid"] > 0.5
    band = [RunKey("hyperband", "a", "plain", "adam", seed=s) for s in range(2)]
    runs = ar.make(band, lambda name: tiny)
    for job in band:
        spent, best = zip(*runs[job]["path"], strict=True)
        assert (
            list(best) == sorted(best)
            and best[-1] > 0.5
            and spent[0] > 0
            and list(spent) == sorted(spent)
        )
        assert runs[job]["rank_seconds"] > 0 and runs[job]["epoch_seconds"] > 0
    # R = 6, eta = 3: s = 1 starts 3 for 2 epochs and takes 1 to 6; s = 0 starts 2 for 6; twice,
    # unless some diverge
    assert runs[band[0]]["path"][-1][0] <= 2 * (3 * 2 + 4 + 2 * 6)
