"""BOHB's densities, its split, and that it searches."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.gray_box.bohb import BOHB, Density, binary_columns
from foretune.study.study import Plan, Step, Study


def test_a_density_is_one_in_all():
    density = Density(np.array([[0.45], [0.5], [0.55]]), np.array([False]))
    at = np.linspace(-3, 4, 70_001)[:, None]
    # the constant of the normal kernel is left out
    total = np.exp(density.log(at)).sum() * 1e-4 / np.sqrt(2 * np.pi)
    assert total == pytest.approx(1, abs=1e-3)
    binary = Density(np.array([[1.0], [1.0], [0.0]]), np.array([True]))
    both = np.exp(binary.log(np.array([[0.0], [1.0]])))
    assert both.sum() == pytest.approx(1) and both[1] > both[0]


def test_draws_lie_in_the_box_near_the_rows():
    density = Density(np.array([[0.2, 1.0], [0.22, 1.0]]), np.array([False, True]))
    drawn = density.draw(500, 3.0, np.random.default_rng(0))
    assert drawn.min() >= 0 and drawn.max() <= 1 and set(drawn[:, 1]) <= {0.0, 1.0}
    assert abs(np.median(drawn[:, 0]) - 0.21) < 0.02 and drawn[:, 1].mean() > 0.5


def test_the_split_takes_the_largest_budget_that_has_enough(table):
    values = np.linspace(0, 1, 12)[None, :, None] * np.ones((1, 12, 9))
    study, _ = replay_study(table(values), "t0", budget=200)
    chosen = BOHB()
    assert chosen.split(study) is None
    for i in range(12):
        study.tell(Step(i, 0, 1), [values[0, i, 0]])
    good, bad = chosen.split(study)
    assert sorted(good) == [10, 11] and len(bad) == 10 and 11 not in bad
    for i in range(5):  # four at 9 epochs are enough for one column: N_min + 2
        study.tell(Step(i, 1, 9), [values[0, i, 0]] * 8)
    assert sorted(chosen.split(study)[0]) == [3, 4]


def test_binary_columns(meta):
    study, _ = replay_study(meta, "t0", budget=9)
    names = [
        n for n, c in meta.space.columns.items() for _ in range(c.stop - c.start)
    ] + meta.space.conditional
    flat = dict(zip(names, binary_columns(study), strict=False))
    assert not flat["learning_rate"] and flat["optimizer"] and binary_columns(study)[-1]


@pytest.mark.parametrize("seed", range(4))
def test_an_open_space_is_searched_where_the_good_ones_were_dense(meta, seed):
    """Neighbours that leave a configuration as it was are its densest place: they are no new
    configuration.
    """
    plan = Plan(
        task="t", metric="m", goal="maximize", max_epoch=9, budget=150, open=True, seed=seed
    )
    study = Study(meta.space, [], plan)
    chosen = BOHB(rho=0)
    while step := study.ask(chosen):
        value = -abs(np.log10(study.configs[step.config_id]["learning_rate"]) + 2)
        study.tell(step, [value] * step.epochs)
    assert study.spent == 150
    rate = np.array([abs(np.log10(study.configs[i]["learning_rate"]) + 2) for i in study.started])
    assert np.median(rate[-10:]) < np.median(rate[:10])


def test_it_beats_random_search(regrets, random_regret):
    assert regrets("bohb", 80) < 0.7 * random_regret


def test_bad_options():
    with pytest.raises(BadInput, match="rho"):
        BOHB(rho=1.5)
    with pytest.raises(BadInput, match="widen=0 must be positive"):
        BOHB(widen=0.0)
