"""Hyperband with a Gaussian process on ranks: its process, what it learns from, and that it
searches better than Hyperband.
"""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.hyperband_gp import HyperbandGP, rank_process
from foretune.searchers.registry import searcher
from foretune.study.study import Step


def test_the_process_interpolates_and_is_unsure_far_away():
    x = np.linspace(0, 1, 9)[:, None]
    y = np.sin(6 * x[:, 0])
    at = np.array([[0.0625], [0.5], [6.0]])
    mean, deviation = rank_process(x, y, at, np.empty((0, 1)))
    np.testing.assert_allclose(mean[:2], np.sin(6 * at[:2, 0]), atol=0.15)
    assert (
        deviation[0] < 0.4
        and mean[2] == pytest.approx(0, abs=1e-3)
        and deviation[2] == pytest.approx(1, abs=1e-3)
    )


def test_what_is_under_way_narrows_the_deviation_and_leaves_the_mean():
    x, y = np.array([[0.0], [1.0]]), np.array([-1.0, 1.0])
    at = np.array([[0.5], [3.0]])
    mean, deviation = rank_process(x, y, at, np.empty((0, 1)))
    after, narrower = rank_process(x, y, at, np.array([[3.0]]))
    np.testing.assert_array_equal(mean, after)
    assert narrower[1] < 0.4 < deviation[1]


@pytest.mark.parametrize("factor", [1.0, 100.0, -1e30])
def test_it_learns_ranks_of_the_highest_rung_with_enough(table, factor):
    values = np.linspace(0, 1, 9)[None, :, None] * np.ones((1, 9, 9)) * factor
    study, _ = replay_study(table(values), "t0", budget=200)
    chosen = HyperbandGP(least=3)
    assert chosen.informed(study) is None
    for i in range(5):
        study.tell(Step(i, 0, 1), [values[0, i, 0]])
    for i in (1, 2, 3):
        study.tell(Step(i, 1, 9), [values[0, i, 0]] * 8)
    study.tell(Step(5, 0, 1), [np.nan])
    ids, y = chosen.informed(study)
    assert ids.tolist() == [1, 2, 3, 5] and y.argmin() == 3  # what failed is the worst
    np.testing.assert_allclose(np.sort(y), np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25))
    assert (np.argsort(y[:3]) == np.argsort(values[0, 1:4, 0])).all()


def test_equal_values_teach_nothing(table):
    study, _ = replay_study(table(np.full((1, 5, 3), 0.5)), "t0", budget=20)
    for i in range(4):
        study.tell(Step(i, 0, 1), [0.5])
    assert HyperbandGP(least=2).informed(study) is None


def test_it_starts_better_configurations_than_hyperband(hills):
    """Mean regret of the configurations started after the first bracket, and of the incumbent."""
    started, found = {}, {}
    for name in ("hyperband", "hyperband-gp"):
        worth, regret = [], []
        for seed in range(6):
            study, objective = replay_study(hills, "t0", budget=160, seed=seed, method=name)
            steps = list(replay(study, objective, searcher(name), Score(hills, "t0")))
            worth.append(hills.best(["t0"])[0][study.started[12:]].mean())
            regret.append(steps[-1]["normalized_regret"])
        started[name], found[name] = np.mean(worth), np.mean(regret)
    assert started["hyperband-gp"] > started["hyperband"] + 0.1
    assert found["hyperband-gp"] <= found["hyperband"]


def test_bad_options():
    with pytest.raises(BadInput, match="least=1"):
        HyperbandGP(least=1)
    with pytest.raises(BadInput, match="rho"):
        HyperbandGP(rho=2.0)
