"""Runs are made once, and the tables say what the runs say."""

import json

import pandas as pd
import pytest

from foretune.evaluation import autohyper_tables as at


def full(task, network, optimizer, choice, seed, test, rate=0.01):
    key = dict(zip(at.KEY, ("full", task, network, optimizer, choice, seed), strict=True))
    return {**key, "rate": rate, "valid": test, "test": test, "loss": 0.1, "seconds": 1.0}


def searched(task, network, optimizer, rate, zs):
    key = dict(zip(at.KEY, ("search", task, network, optimizer, "paper", 0), strict=True))
    trials = [{"rate": r, "z": z, "curve": [z] * 5, "losses": [1.0] * 5} for r, z in zs.items()]
    return {**key, "rate": rate, "converged": True, "spread": 0.8, "why": "", "trials": trials, "seconds": 3.0}


def test_tables_from_runs(tmp_path):
    lines = [
        searched("a", "plain", "adam", 0.002, {1e-4: 1.0, 0.002: 0.4, 0.1: 0.2}),
        searched("b", "plain", "adam", 0.5, {1e-4: 1.0}),
    ]
    for seed in range(2):
        lines += [
            full("a", "plain", "adam", c, seed, t + 0.02 * seed)
            for c, t in (("autohyper", 0.80), ("suggested", 0.78), ("random", 0.86))
        ]
        lines += [
            full("b", "plain", "adam", c, seed, t)
            for c, t in (("autohyper", 0.695), ("suggested", 0.70), ("random", 0.60))
        ]
    band = dict(zip(at.KEY, ("hyperband", "a", "plain", "adam", "", 0), strict=True))
    lines.append({**band, "path": [[10, 0.5], [30, 0.81], [60, 0.9]], "seconds": 6.0})
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "torn')
    summary = at.tables(at.Runs(tmp_path / "runs.jsonl"), tmp_path)
    accuracy = pd.read_csv(tmp_path / "accuracy.csv").set_index("task")
    assert accuracy.loc["a", ["autohyper", "suggested", "random"]].tolist() == pytest.approx([0.81, 0.79, 0.87])
    assert accuracy.loc["a", "autohyper_std"] == pytest.approx(0.02 / 2**0.5, rel=1e-5)
    assert accuracy.loc["b", "autohyper_seeds"] == 2
    against = summary["against_suggested"]
    assert (against["cases"], against["within_1_percent_or_above"], against["above"]) == (2, 1.0, 0.5)
    assert against["mean_gap"] == pytest.approx((0.02 - 0.005) / 2)
    assert summary["against_random"]["within_1_percent_or_above"] == 0.5
    rates = pd.read_csv(tmp_path / "learning_rates.csv").set_index("task")
    assert rates.loc["a", "z"] == 0.4 and rates.loc["a", "epochs"] == 15 and pd.isna(rates.loc["b", "z"])
    assert summary["trials"]["adam"] == {"mean": 2, "least": 1, "most": 3}
    hyperband = pd.read_csv(tmp_path / "hyperband.csv").iloc[0]
    assert (hyperband["hyperband_epochs"], hyperband["autohyper_epochs"]) == (30, 15 + at.FULL)
    assert hyperband["hyperband_seconds"] == pytest.approx(3.0)


def test_a_run_is_made_once_and_kept(tmp_path):
    runs = at.Runs(tmp_path / "runs.jsonl")
    key = ("full", "a", "plain", "adam", "random", 0)
    made = runs.make(key, lambda: {"rate": 0.1234567891, "loss": float("nan")})
    assert made["rate"] == 0.123457 and made["loss"] is None
    again = at.Runs(tmp_path / "runs.jsonl")
    assert again.make(key, lambda: pytest.fail("made twice")) == made


def test_every_prefix_of_the_plan_fills_the_first_seed_first(tmp_path, monkeypatch):
    runs = at.Runs(tmp_path / "runs.jsonl")
    asked = []

    def make(key, run):
        asked.append(key)
        return {"trials": [1, 2], "rate": 0.1}

    monkeypatch.setattr(runs, "make", make)
    steps = list(at.jobs(runs, lambda name: None, ["a", "b"], 2))
    assert len(steps) == len(asked)
    cells = 2 * 3 * 6
    assert [k[0] for k in asked[:5]] == ["search", "random", "full", "full", "full"]
    assert {k[-1] for k in asked[: 5 * cells]} == {0}
    assert sum(k[0] == "full" and k[-1] == 1 for k in asked) == 3 * cells
