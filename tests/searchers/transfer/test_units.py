"""A study in another unit than its past finds the same; absurd values move nothing."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.evaluation.replay import replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.base import Searcher
from foretune.searchers.registry import searcher
from foretune.searchers.transfer.past_curves import comparable, credible, past_curves
from foretune.searchers.transfer.units import (
    Unit,
    absurd,
    told_in_past_unit,
    unit_of,
    without_absurd,
)
from foretune.study.plan import Plan
from foretune.study.study import Study, Suggestion

EPOCHS = 6
UNITS = {
    "percent": (lambda v: 100 * v, "maximize"),
    "thousands": (lambda v: 1000 * v + 5, "maximize"),
    "loss": (lambda v: 1 - v, "minimize"),
    "turned": (lambda v: -v, "minimize"),
    "millionths": (lambda v: 1e-6 * v, "maximize"),
}


class Chosen(Searcher):
    """Asks for the first epochs of one configuration."""

    def __init__(self, config_id: int, epochs: int):
        self.config_id, self.epochs = config_id, epochs

    def suggest(self, study, rng):
        return Suggestion(self.config_id, 0, self.epochs, {"why": "chosen"})


@pytest.fixture(scope="module")
def meta() -> MetaDataset:
    return synthetic_meta(tasks=5, configs=24, epochs=EPOCHS)


def steps(
    meta: MetaDataset, method: str, unit=(lambda v: v, "maximize"), budget: int = 24, past=None
) -> list[tuple[int, int, int]]:
    """What a method asks for on t0, told in `unit`, the other tasks being its past."""
    tell, goal = unit
    objective = replay_study(meta, "t0", budget=budget)[1]
    plan = Plan(task="t0", metric="m", goal=goal, max_epoch=EPOCHS, budget=budget, seed=0)
    past = meta.select(meta.tasks[1:]) if past is None else past
    study, chosen, asked = Study(meta.space, meta.configs, plan, past=past), searcher(method), []
    while (step := study.ask(chosen)) is not None:
        rows = objective.run(step.config_id, study.configs[step.config_id], step.start, step.stop)
        study.tell(step, [tell(row[meta.metric]) for row in rows.rows if row["epoch"]])
        asked.append((step.config_id, step.start, step.stop))
    return asked


@pytest.mark.parametrize("unit", UNITS)
def test_the_default_asks_for_the_same_whatever_the_unit(meta, unit):
    assert steps(meta, "curve-transfer", UNITS[unit]) == steps(meta, "curve-transfer")


def other_cell(meta: MetaDataset, task: str, config_id: int, epoch: int, value: float):
    """`meta` with one value exchanged."""
    frame = meta.table.copy()
    at = (
        (frame["task"] == task) & (frame["config_id"] == config_id) & (frame["epoch"] == epoch)
    ).to_numpy()
    assert at.sum() == 1
    frame.loc[at, meta.metric] = value
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    return MetaDataset.build(meta.space, configs, frame, **meta.about)


def poorest(meta: MetaDataset, task: str) -> tuple[int, int, float]:
    """Where a task is poorest at its last epoch, and the least of the others' values there:
    configuration, epoch, value.
    """
    last = meta.curves(task)[:, -1]
    order = np.argsort(last)  # NaN last
    return int(order[0]), EPOCHS, float(last[order[1]])


@pytest.mark.parametrize("value", [-1e30, -1e4])
@pytest.mark.parametrize("method", ["curve-transfer", "rgpe", "empirical-prior"])
def test_one_absurd_value_in_the_past_moves_nothing(meta, method, value):
    # in place of the poorest last value it counts as the next one, so that a table which holds that
    # one there is asked the same; and the first steps are those of the table as it was
    past = meta.select(meta.tasks[1:])
    c, e, second = poorest(past, "t2")
    found = steps(meta, method, past=other_cell(past, "t2", c, e, value))
    assert found == steps(meta, method, past=other_cell(past, "t2", c, e, second))
    assert found[:5] == steps(meta, method)[:5]


def test_an_absurd_value_of_the_past_is_the_worst_of_its_epoch_or_a_hole(meta):
    plan = Plan(task="new", metric="m", goal="maximize", max_epoch=EPOCHS, budget=20)
    c, e, second = poorest(meta, "t2")

    def learned(table: MetaDataset):
        return past_curves(Study(meta.space, meta.configs, plan, past=table))

    poor = learned(other_cell(meta, "t2", c, e, -1e30))
    np.testing.assert_array_equal(poor.Z, learned(other_cell(meta, "t2", c, e, second)).Z)
    frame = meta.table
    missing = frame[~((frame["task"] == "t2") & (frame["config_id"] == c) & (frame["epoch"] == e))]
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    holed = MetaDataset.build(meta.space, configs, missing, **meta.about)
    good = learned(other_cell(meta, "t2", c, e, 1e30))
    np.testing.assert_array_equal(good.Z, learned(holed).Z)


def test_credible_leaves_honest_tables_and_names_the_worst_of_the_rest():
    rng = np.random.default_rng(0)
    honest = rng.uniform(0.1, 0.9, (10, 5))
    np.testing.assert_array_equal(credible(honest), honest)
    holed = honest.copy()
    holed[0, 3:] = np.nan
    np.testing.assert_array_equal(credible(holed), holed)
    wrong = honest.copy()
    wrong[4, 2], wrong[5, 1] = -1e34, 1e12
    found = credible(wrong)
    assert found[4, 2] == np.delete(honest[:, 2], 4).min()
    assert np.isnan(found[5, 1])
    # two values only, and nothing in between: neither is absurd
    two = np.where(honest > 0.8, 1.0, 0.0)
    np.testing.assert_array_equal(credible(two), two)
    # most values equal: the distinct ones say how far values lie apart
    few = np.full((10, 10), 0.5)
    few[0, :4] = 0.6, 0.7, 0.8, -1e30
    assert credible(few).min() == 0.5
    assert credible(few).max() == 0.8


def test_absurd_are_the_few_below_a_gap_that_the_others_do_not_know():
    c = np.array([0, 0, 0, 1, 1, 1])
    y = np.array([0.5, 0.6, 0.7, 0.55, 0.6, -1e30])
    np.testing.assert_array_equal(absurd(c, y), [False] * 5 + [True])
    # 0.2 is the others' range: 100 times that below 0.5 is -19.5
    assert absurd(c, np.r_[y[:5], -19.6]).any()
    assert not absurd(c, np.r_[y[:5], -19.4]).any()
    assert not absurd(np.zeros(6, dtype=int), y).any()  # one configuration says no range
    assert not absurd(c[3:], y[3:]).any()  # nor do two values
    assert not absurd(c, -y).any()  # absurdly good is believed
    # the greater part of the values is never absurd
    assert not absurd(c, np.where(y > 0.6, y, -1e30)).any()
    # it is the least of the others at its epoch or later, else of all
    e = np.array([0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(without_absurd(c, e, y), [*y[:5], 0.7])
    np.testing.assert_array_equal(without_absurd(c, e + 9 * (y < 0), y), [*y[:5], 0.5])


@pytest.mark.parametrize("method", ["curve-transfer", "at2"])
def test_one_absurd_value_in_a_study_moves_at_most_its_configuration(meta, method):
    # a study with enough seen; the last epoch of its worst configuration is absurd
    def suggested(value: float | None) -> tuple[int, np.ndarray]:
        plan = Plan(task="t0", metric="m", goal="maximize", max_epoch=EPOCHS, budget=60, seed=0)
        past = meta.select(meta.tasks[1:])
        study = Study(meta.space, meta.configs, plan, past=past)
        curves = meta.curves("t0")
        known = np.flatnonzero(np.isfinite(curves[:, :3]).all(axis=1))[:6]
        poor = int(known[curves[known, 2].argmin()])
        for c in known:
            step = study.ask(Chosen(int(c), 3))
            values = curves[c, :3].copy()
            if c == poor and value is not None:
                values[2] = value
            study.tell(step, values.tolist())
        return study.ask(searcher(method)).config_id, poor

    plain, poor = suggested(None)
    moved, _ = suggested(-1e30)
    assert moved == plain
    assert moved != poor


def past_of_table() -> tuple:
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(15, 2))
    good = X[:, :1] + 0.3 * np.log1p(np.arange(8))
    Y = np.stack([0.1 * t + (1 + 0.1 * t) * good for t in range(4)]) / 3
    return comparable(Y, X, tuple("abcd"), 15), Y


def test_another_unit_is_the_two_moments_of_the_cells_seen():
    past, Y = past_of_table()
    seen = np.zeros(Y[0].shape, dtype=bool)
    seen[[1, 1, 4, 7, 7], [0, 3, 2, 0, 5]] = True
    same = np.where(seen, Y[1], np.nan)
    assert unit_of(past, same) == Unit()
    assert unit_of(past, np.full(Y[0].shape, np.nan)) == Unit()
    usual = np.sqrt(np.mean([Y[t][seen].var() for t in range(4)]))
    factor = Y[1][seen].std() / usual
    for a, b in [(100.0, 0.0), (1000.0, 5.0), (1e-3, 0.0)]:
        unit = unit_of(past, a * same + b)
        assert unit.factor == pytest.approx(a * factor)
        assert unit.shift == pytest.approx(
            (a * Y[1] + b)[seen].mean() - unit.factor * Y[:, seen].mean()
        )
        back, found = told_in_past_unit(past, a * same + b)
        np.testing.assert_allclose(found.to_study(back), a * same + b)
        # the same spread and mean as the past tasks have there
        assert back[seen].std() == pytest.approx(usual)
        assert back[seen].mean() == pytest.approx(Y[:, seen].mean())


@pytest.mark.parametrize(
    "method", ["at2", "ablr", "rgpe", "pmf", "task-weights", "empirical-prior"]
)
def test_methods_in_the_past_unit_find_as_much_in_percent_as_in_thousands(meta, method):
    # both are other units and are matched alike: the same steps
    percent = steps(meta, method, UNITS["percent"], budget=12)
    assert percent == steps(meta, method, UNITS["thousands"], budget=12)
