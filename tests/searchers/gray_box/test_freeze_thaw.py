"""Freeze-thaw: standard values, what it observes of a study, and that it searches."""

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.gray_box.boca import BOCA
from foretune.searchers.gray_box.curve_gp import Prior
from foretune.searchers.gray_box.freeze_thaw import FIRST_FIT, Curves, FreezeThaw, Standard
from foretune.space.space import Space
from foretune.study.study import Plan, Step, Study


@pytest.mark.parametrize("factor", [1.0, 100.0, 1e-4])
def test_standard_values_do_not_depend_on_the_unit(factor):
    values = np.array([0.1, 0.5, 0.52, 0.55, 0.6, -np.inf])
    np.testing.assert_allclose(Standard(values * factor)(values * factor), Standard(values)(values))


def test_a_wild_tail_is_cut_and_equal_values_do_no_harm():
    values = np.array([-0.3, -0.5, -0.69, -0.7, -1e34, -np.inf])
    scaled = Standard(values)(values)
    assert np.isfinite(scaled).all() and scaled[4] == scaled[5] and scaled[0] - scaled[1] > 0.3
    np.testing.assert_allclose(Standard(np.full(3, 0.2))(np.full(3, 0.2)), 0, atol=1e-12)


def test_observations_are_running_bests_at_grid_epochs_and_failures(table):
    values = np.array([[[0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.9, 0.9, 0.9]] * 3])
    study, _ = replay_study(table(values), "t0", budget=100)
    study.tell(Step(0, 0, 7), values[0, 0, :7].tolist())
    study.tell(Step(1, 0, 2), [0.3, float("nan")])
    curves = Curves(study, 1.25, 100, Prior())
    curves.take(study)
    # epochs 1 .. 6 are on the grid, 7 is not
    assert curves.points == [(0, h) for h in range(6)] + [(1, 0), (1, 1)]
    assert curves.values == [0.5, 0.5, 0.6, 0.6, 0.6, 0.6, 0.3, -np.inf]


def test_the_schedule_of_fits(table):
    study, _ = replay_study(table(np.zeros((1, 3, 4))), "t0", budget=10)
    curves = Curves(study, 1.25, 100, Prior())
    assert [curves.scheduled_before(n) for n in (0, 5, FIRST_FIT, 7, 8, 9)] == [0, 0, 6, 7, 8, 8]


def test_steps_go_to_grid_epochs_and_no_further_than_the_budget_pays(hills):
    study, objective = replay_study(hills, "t0", budget=90, method="freeze-thaw")
    chosen = FreezeThaw()
    grid = Curves(study, 1.25, 10, Prior()).grid
    while step := study.ask(chosen):
        assert step.stop in grid or study.remaining == 0
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
    assert study.spent == 90


def test_a_large_pool_is_sampled_anew_at_each_fit(table):
    rng = np.random.default_rng(0)
    study, objective = replay_study(
        table(rng.random((1, 300, 4))), "t0", budget=40, method="freeze-thaw"
    )
    chosen = FreezeThaw(candidates=20)
    seen = set()
    while step := study.ask(chosen):
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
        seen |= set(chosen.model(study).members.tolist())
        assert len(chosen.model(study).members) <= 20 + len(study.started)
    assert len(seen) > 60


def test_it_beats_random_search(regrets, random_regret):
    assert regrets("freeze-thaw", 80) < 0.5 * random_regret


@pytest.mark.parametrize("method", [FreezeThaw, BOCA])
def test_an_open_space_smaller_than_the_first_random_ones_is_trained_to_the_end(method):
    space = ConfigurationSpace()
    space.add(Categorical("a", ["x", "y"]))
    study = Study(
        Space(space),
        [],
        Plan(task="t", metric="m", goal="maximize", max_epoch=4, budget=100, open=True),
    )
    chosen = method(first=3)
    while step := study.ask(chosen):
        study.tell(step, [0.5 + 0.1 * epoch for epoch in range(step.start, step.stop)])
    assert len(study.configs) == 2 and study.spent == 8


def test_bad_options():
    with pytest.raises(BadInput, match="ratio"):
        FreezeThaw(ratio=1.0)
    with pytest.raises(BadInput, match="alpha=-1 must be at least 0"):
        FreezeThaw(alpha=-1.0)
    for widen in (0.0, -2.0, float("nan")):
        with pytest.raises(BadInput, match=f"widen={widen:g} must be positive"):
            FreezeThaw(widen=widen)
