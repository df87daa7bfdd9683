"""A study in another unit than its past finds the same; absurd values move nothing."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.evaluation.replay import replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.base import Searcher
from foretune.searchers.registry import searcher
from foretune.searchers.transfer.past_curves import (
    PastCurves,
    comparable,
    credible,
    past_curves,
)
from foretune.searchers.transfer.units import (
    Unit,
    Units,
    below_gap,
    in_past_unit,
    without_absurd,
)
from foretune.study.plan import Plan
from foretune.study.study import Study, Suggestion

EPOCHS = 6
UNIT = Unit()
UNITS = {
    "percent": (lambda v: 100 * v, "maximize"),
    "thousands": (lambda v: 1000 * v, "maximize"),
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


def test_of_an_unknown_unit_the_few_below_a_gap_that_the_others_do_not_know_are_absurd():
    c = np.array([0, 0, 0, 1, 1, 1])
    y = np.array([0.5, 0.6, 0.7, 0.55, 0.6, -1e30])
    np.testing.assert_array_equal(below_gap(c, y), [False] * 5 + [True])
    # 0.2 is the others' range: 100 times that below 0.5 is -19.5
    assert below_gap(c, np.r_[y[:5], -19.6]).any()
    assert not below_gap(c, np.r_[y[:5], -19.4]).any()
    assert not below_gap(np.zeros(6, dtype=int), y).any()  # one configuration says no range
    assert not below_gap(c[3:], y[3:]).any()  # nor do two values
    assert not below_gap(c, -y).any()  # absurdly good is believed
    # the greater part of the values is never absurd
    assert not below_gap(c, np.where(y > 0.6, y, -1e30)).any()


def test_an_absurd_value_becomes_the_least_of_the_others_or_is_left_out():
    c = np.array([0, 0, 0, 1, 1, 1])
    y = np.array([0.5, 0.6, 0.7, 0.55, 0.6, -1e30])
    e = np.array([0, 1, 2, 0, 1, 2])
    wrong = np.abs(y) > 10
    # the least at its epoch or later, else of all
    np.testing.assert_array_equal(without_absurd(c, e, y, wrong)[2], [*y[:5], 0.7])
    np.testing.assert_array_equal(without_absurd(c, e + 9 * wrong, y, wrong)[2], [*y[:5], 0.5])
    for before, after in zip((c, e, y), without_absurd(c, e, np.abs(y), wrong), strict=True):
        np.testing.assert_array_equal(after, before[:5])


@pytest.mark.parametrize("method", ["curve-transfer", pytest.param("at2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("value", [-1e34, -1e6, 1e34])
def test_one_absurd_value_in_a_study_moves_nothing(meta, method, value):
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
    moved, _ = suggested(value)
    assert moved == plain
    assert moved != poor


def past_in(unit: Unit = UNIT, tasks: int = 6) -> PastCurves:
    """Accuracies of six tasks between .1 and 1, rising with the epoch, told in `unit`."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(15, 2))
    rise = 1 - np.exp(-np.arange(1, 9) / 3)
    top = 0.5 + 0.08 * np.arange(tasks)[:, None, None] + 0.1 * (X[:, :1] - 0.5)
    Y = 0.1 + (top - 0.1) * rise
    return comparable(unit.to_study(Y), X, tuple("abcdefgh"[:tasks]), 15)


CELLS = np.array([1, 1, 4, 7, 7]), np.array([0, 3, 2, 0, 5])
LIKE = {
    "one value at the first epoch": [0.25],
    "a hard task": [0.02, 0.06, 0.05, 0.02, 0.08],
    "an easy task": [0.8, 0.985, 0.97, 0.8, 0.99],
    "the middle": [0.3, 0.6, 0.5, 0.3, 0.7],
    "chance": [0.1, 0.1, 0.1, 0.1, 0.1],
}


@pytest.mark.parametrize("values", LIKE.values(), ids=LIKE)
@pytest.mark.parametrize("power", [0, 2, 3])
def test_a_task_in_its_past_unit_is_recognised_as_such(values, power):
    past = past_in(Unit(10.0**power))
    units, y = Units.of(past), 10.0**power * np.array(values)
    c, e = CELLS[0][: len(y)], CELLS[1][: len(y)]
    assert units.recognised(past.raw[:, c, e], y) == UNIT


@pytest.mark.parametrize("name", ["one value at the first epoch", "an easy task", "the middle"])
@pytest.mark.parametrize(
    ("past_unit", "study_unit"),
    [
        (UNIT, Unit(100.0)),
        (UNIT, Unit(1000.0)),
        (UNIT, Unit(1.0, -1.0)),  # 1 - value as a loss: higher is better inside
        (UNIT, Unit(100.0, -100.0)),
        (Unit(100.0), UNIT),
        (Unit(100.0), Unit(1.0, -1.0)),
        (Unit(1.0, -1.0), UNIT),
        (Unit(1.0, -1.0), Unit(100.0)),
    ],
)
def test_per_cent_thousands_and_complements_are_recognised(name, past_unit, study_unit):
    past, accuracy = past_in(past_unit), np.array(LIKE[name])
    units, y = Units.of(past), study_unit.to_study(accuracy)
    c, e = CELLS[0][: len(y)], CELLS[1][: len(y)]
    found = units.recognised(past.raw[:, c, e], y)
    assert found is not None
    np.testing.assert_allclose(found.to_past(y), past_unit.to_study(accuracy), atol=1e-9)


def test_values_that_lie_nowhere_have_no_known_unit():
    past = past_in()
    at, y = past.raw[:, CELLS[0], CELLS[1]], np.array(LIKE["the middle"])
    assert Units.of(past).recognised(at, 5e9 + y) is None
    # nor does one absurd value make the others' unit unknown
    for wrong in (-1e34, 1e34):
        assert Units.of(past).recognised(at, np.r_[100 * y[:4], wrong]) == Unit(100.0)
        assert Units.of(past).recognised(at[:, :2], np.r_[y[:1], wrong]) == UNIT


def test_an_unknown_unit_is_matched_by_the_two_moments_of_the_cells_seen():
    meta = synthetic_meta(tasks=5, configs=24, epochs=EPOCHS)
    plan = Plan(task="t0", metric="m", goal="maximize", max_epoch=EPOCHS, budget=60, seed=0)
    study = Study(meta.space, meta.configs, plan, past=meta.select(meta.tasks[1:]))
    curves, known = meta.curves("t0"), np.flatnonzero(np.isfinite(meta.curves("t0")).all(axis=1))
    for c in known[:4]:
        study.tell(study.ask(Chosen(int(c), 3)), (5e9 + 3 * curves[c, :3]).tolist())
    Y, unit = in_past_unit(study)
    seen = np.isfinite(Y)
    raw = past_curves(study).raw[:, seen]
    np.testing.assert_array_equal(seen, np.isfinite(study.Y))
    np.testing.assert_allclose(unit.to_study(Y[seen]), study.Y[seen])
    assert Y[seen].mean() == pytest.approx(raw.mean())
    assert Y[seen].std() == pytest.approx(np.sqrt(raw.var(axis=1).mean()), rel=1e-4)


SLOW = [pytest.param(m, marks=pytest.mark.slow) for m in ("at2", "ablr", "pmf", "siamese-bo")]


@pytest.mark.parametrize("method", ["rgpe", "task-weights", "empirical-prior", "portfolio", *SLOW])
def test_methods_that_read_past_values_ask_for_the_same_in_any_unit(meta, method):
    plain = steps(meta, method, budget=12)
    for unit in ("percent", "loss"):
        assert steps(meta, method, UNITS[unit], budget=12) == plain


@pytest.mark.parametrize("absurd", [1e15, 3.4e38, 1e200, 1e308])
def test_credible_holds_where_a_fifth_of_the_configurations_is_absurd(absurd):
    rng = np.random.default_rng(0)
    honest = rng.uniform(0, 1, (50, 4))
    for sign, share in ((1, 10), (-1, 10)):
        wrong = honest.copy()
        wrong[:share] = sign * absurd
        found = credible(wrong)
        np.testing.assert_array_equal(found[share:], honest[share:])
        rest = np.isnan(found[:share]) if sign > 0 else found[:share] <= honest.max()
        assert rest.all()
