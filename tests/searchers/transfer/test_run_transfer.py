"""A study whose space or pool the past does not share."""

import copy

import numpy as np
import pandas as pd
import pytest
import run_world

from foretune.searchers.registry import searcher
from foretune.searchers.transfer.curve_transfer import CurveTransfer
from foretune.searchers.transfer.run_transfer import RunTransfer
from foretune.space.space import config_key

RUNS = run_world.past_runs()


def test_a_past_that_knows_the_rate_helps_among_seven_unknown_hyperparameters():
    regrets = {
        kind: np.mean(
            [run_world.play(run_world.study_of(runs, trainings=2, seed=s), make()) for s in (0, 1)]
        )
        for kind, runs, make in (
            ("with", RUNS, CurveTransfer),
            ("without", None, lambda: searcher("random")),
        )
    }
    assert regrets["with"] < 0.03  # the rate is right; unknown ones cost at most .035 in all
    assert regrets["with"] < 0.5 * regrets["without"]


@pytest.mark.slow
def test_a_permuted_past_costs_little():
    def mean(runs: pd.DataFrame | None, make) -> float:
        seeds = range(3)
        return float(
            np.mean([run_world.play(run_world.study_of(runs, seed=s), make()) for s in seeds])
        )

    plain = mean(None, lambda: searcher("random"))
    assert mean(run_world.permuted(RUNS), CurveTransfer) < plain + 0.03


def test_the_targets_own_observations_contradict_a_useless_past():
    pool = run_world.space_of(run_world.SHARED).sample(30, np.random.default_rng(1))
    misled = RUNS.assign(score=-RUNS["score"])
    trust = {}
    for kind, runs in (("real", RUNS), ("mirrored", misled)):
        study = run_world.study_of(
            runs, pool, trainings=6, space=run_world.space_of(run_world.SHARED)
        )
        run_world.play(study, RunTransfer())
        trust[kind] = study.steps[-1]["because"]["trust"]["none"]
    assert trust["real"] < 0.5 < trust["mirrored"]


def test_suggesting_changes_nothing_and_a_fresh_searcher_suggests_the_same():
    study, kept = run_world.study_of(RUNS), RunTransfer()
    for _ in range(2):
        before = copy.deepcopy((study.configs, study.Y.tobytes(), study.steps))
        one = kept.suggest(study, study.rng())
        assert (study.configs, study.Y.tobytes(), study.steps) == before
        assert RunTransfer().suggest(study, study.rng()) == one
        step = study.ask(kept)
        study.tell(step, [0.5 + 0.01 * e for e in range(step.start, step.stop)])


def test_conditional_hyperparameters_are_on_or_off():
    kind = {"type": "categorical", "name": "optimizer", "choices": ["sgd", "adam"]}
    kind |= {"default_value": "sgd", "weights": None, "meta": None}
    only = {"type": "EQ", "child": "momentum", "parent": "optimizer", "value": "sgd"}
    momentum = run_world.number("momentum", 0.0, 0.99)
    space = run_world.space_of([*run_world.SHARED, kind, momentum], (only,))
    rng = np.random.default_rng(0)
    rows = [
        {**c, "task": f"t{t}", "score": run_world.score(c) + 0.1 * (c["optimizer"] == "adam")}
        for t in range(4)
        for c in space.sample(15, rng)
    ]
    study = run_world.study_of(pd.DataFrame(rows), space=space)
    run_world.play(study, CurveTransfer())
    assert all(("momentum" in c) == (c["optimizer"] == "sgd") for c in study.configs)
    first = study.configs[study.steps[0]["config_id"]]
    assert first["optimizer"] == "adam" and abs(np.log10(first["learning_rate"]) + 2.5) < 1


@pytest.mark.parametrize("runs", [RUNS.head(0), RUNS.assign(score=1.0), RUNS[["task", "score"]]])
def test_no_past_ends_a_study(runs):
    """No run, runs that are all alike, runs without a column that differs."""
    study = run_world.study_of(runs, trainings=2)
    run_world.play(study, CurveTransfer())
    assert study.spent == study.budget


def test_a_failed_trial_is_left_alone_and_a_pending_one_counts():
    pool = run_world.space_of(run_world.SHARED).sample(12, np.random.default_rng(2))
    space = run_world.space_of(run_world.SHARED)
    study, chosen = run_world.study_of(RUNS, pool, space=space), RunTransfer()
    first = study.ask(chosen)
    second = study.ask(chosen)  # while the first is under way
    assert second.config_id != first.config_id
    study.fail(first, 1, "out of memory")
    assert study.ask(chosen).config_id != first.config_id
    assert chosen.recommend(study) != first.config_id


def test_it_says_which_tasks_speak_and_how_far_they_are_believed():
    study = run_world.study_of(RUNS)
    because = study.ask(CurveTransfer()).because
    assert set(because["past"]) <= set(RUNS["task"]) and because["past"]
    assert sum(because["trust"].values()) == pytest.approx(1.0, abs=0.01)


def test_a_started_configuration_is_another_row_of_the_same_forecast():
    study, kept = run_world.study_of(RUNS), RunTransfer()
    known = kept.knowledge(study)
    kept.pool(study, known)
    made = kept._forecasts._kept[study][1].made
    step = study.ask(kept)
    study.tell(step, [0.5 + 0.01 * e for e in range(step.start, step.stop)])
    new, prior = kept.pool(study, known)
    keys = {config_key(c) for c in [*study.configs, *new]}
    assert len(keys) == len(study.configs) + len(new) == len(prior.forecast.mean)
    fresh = RunTransfer()
    again = fresh.pool(study, fresh.knowledge(study))[1].forecast
    np.testing.assert_allclose(prior.forecast.mean, again.mean, atol=1e-9)
    np.testing.assert_allclose(prior.forecast.cov, again.cov, atol=1e-9)
    # without an incumbent of its own nothing new is to be forecast
    second = study.ask(kept)
    study.tell(second, [0.1 + 0.01 * e for e in range(second.start, second.stop)])
    before = kept._forecasts._kept[study][1].made
    kept.pool(study, known)
    assert kept._forecasts._kept[study][1].made is before is not made
