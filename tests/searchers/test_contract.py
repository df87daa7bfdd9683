"""What every searcher of `METHODS` must hold to; a method that is added to the table is tested here
without further ado.

Each test is one law, and names all methods that break it. A slow method gets fits of a few steps
(`laws.QUICK`) and a smaller study (`SMALLER`); one that needs more than a table of curves has tests
of its own (`laws.SPECIAL`).
"""

import json
import math
import time

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Integer
from laws import PLAIN, SPECIAL, WITHOUT_PAST, each, outcome, quick, rising, run
from synthetic import synthetic_space

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.registry import METHODS, searcher
from foretune.space.space import Space
from foretune.study.study import Plan, Study

# method -> epochs of the longer studies
SMALLER = {
    "at2": 12,
    "boca": 30,
    "bohamiann": 15,
    "box-bo": 30,
    "curve-transfer": 24,
    "dyhpo": 20,
    "dyhpo+": 20,
    "freeze-thaw": 24,
    "pmf": 9,
    "rgpe": 24,
}
LENGTH = 60


def length_for(name):
    """Epochs of the longer studies."""
    return SMALLER.get(name, LENGTH)


def small(table, name, values, budget=10_000, goal="maximize", **more):
    """A study of task t0 of a table made of `values`, whose other tasks are its past if the method
    needs one.
    """
    if METHODS[name].needs_past or len(values) > 1:
        values = (
            values
            if len(values) > 1
            else np.concatenate([values, values[:, ::-1], np.sort(values, axis=1)])
        )
    return replay_study(table(values, goal), "t0", budget=budget, method=name, **more)


def curves(n, epochs, tasks=3, seed=0):
    """Rising curves that differ by configuration, related across tasks."""
    rng = np.random.default_rng(seed)
    top = rng.uniform(0.2, 1, n)[None, :, None] + rng.normal(0, 0.05, (tasks, n, 1))
    rate = rng.uniform(0.3, 1.5, (1, n, 1))
    return top * (1 - np.exp(-rate * np.arange(1, epochs + 1))) + rng.normal(
        0, 0.01, (tasks, n, epochs)
    )


@each(*PLAIN)
def test_the_same_seed_gives_the_same_steps_from_one_object_and_a_fresh_one(name, meta):
    length = length_for(name)
    study, objective = replay_study(meta, "t0", budget=length, seed=3, method=name)
    want = run(study, objective, quick(name))
    assert want and study.spent == length
    study, objective = replay_study(meta, "t0", budget=length, seed=3, method=name)
    # nothing that matters is hidden in the object; a slow one learns anew at every step
    limit = 4 if name in SMALLER else len(want)
    assert run(study, objective, lambda: quick(name), limit=limit) == want[:limit]


@pytest.mark.slow
@each(*PLAIN)
def test_a_study_read_back_goes_on_as_if_never_stopped(name, meta, tmp_path):
    study, objective = replay_study(meta, "t0", budget=length_for(name), seed=3, method=name)
    want = run(study, objective, quick(name))
    study, _ = replay_study(meta, "t0", budget=length_for(name), seed=3, method=name)
    kept = Study(study.space, study.configs, study.plan, past=study.past, folder=tmp_path / name)
    part = len(want) // 2
    assert run(kept, objective, quick(name), limit=part) == want[:part]
    again = Study.load(tmp_path / name, study.past)
    assert run(again, objective, quick(name)) == want[part:]


@each(*PLAIN)
def test_suggesting_changes_nothing_and_says_why(name, meta):
    length = length_for(name)
    study, objective = replay_study(meta, "t0", budget=length, method=name)
    chosen = quick(name)
    while not study.done:
        before = {
            k: np.copy(getattr(study, k))
            for k in ("X", "Y", "epoch", "pending", "failed", "past_ids")
        }
        counts = (
            study.asked,
            study.spent,
            len(study.order),
            len(study.started),
            len(study.configs),
        )
        suggestion = chosen.suggest(study, study.rng())
        recommended = chosen.recommend(study)
        assert all(
            np.array_equal(before[k], getattr(study, k), equal_nan=k in "XY") for k in before
        )
        assert counts == (
            study.asked,
            study.spent,
            len(study.order),
            len(study.started),
            len(study.configs),
        )
        assert recommended is None or 0 <= recommended < len(study.configs)
        because = suggestion.because
        assert because["why"] and json.dumps(dict(because), default=float)
        past = because.get("past", {})
        assert set(past) <= set(study.past.tasks) and all(
            math.isfinite(w) and w >= 0 for w in past.values()
        )
        step = study.ask(chosen)
        assert step.config_id == suggestion.config and step.because == because
        study.tell(step, outcome(objective, study, step).rows[: study.remaining + step.epochs + 1])
    assert chosen.recommend(study) is not None


@each(*PLAIN)
def test_values_that_were_not_observed_do_not_matter(name, meta):
    """The target's table is poisoned: all that a method may know of it is what the study was
    told.
    """
    length = length_for(name)
    study, objective = replay_study(meta, "t0", budget=length, seed=1, method=name)
    chosen, want = quick(name), []
    while step := study.ask(chosen):
        rows = outcome(objective, study, step).rows
        study.tell(step, rows)
        want.append((step, rows))
    frame = meta.table.copy()
    target = frame["task"] == "t0"
    frame.loc[target, meta.metric] = (
        np.random.default_rng(0).permutation(1.0 - frame.loc[target, meta.metric].to_numpy()) * 1e6
    )
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    poisoned = meta.build(meta.space, configs, frame, **meta.about)
    study, _ = replay_study(poisoned, "t0", budget=length, seed=1, method=name)
    chosen = quick(name)
    for step, rows in want:
        assert study.ask(chosen) == step
        study.tell(step, rows)


@each(*PLAIN)
def test_several_pending_steps_trouble_and_partial_news(name, meta):
    """Three workers that report epoch by epoch in random order, some dying: no step twice, no
    standstill, the budget to the last epoch.
    """
    workers, length = 3, length_for(name)
    rng = np.random.default_rng(5)
    study, objective = replay_study(meta, "t0", budget=length, seed=2, method=name)
    chosen, under_way = quick(name), []
    while True:
        while len(under_way) < workers and (step := study.ask(chosen)):
            assert all(step.config_id != other.config_id for other, _ in under_way)
            assert step.start == study.epoch[step.config_id] and study.remaining >= 0
            under_way.append((step, outcome(objective, study, step).rows))
        if not under_way:
            break
        k = int(rng.integers(len(under_way)))
        step, rows = under_way[k]
        if rng.random() < 0.05:
            study.fail(step, int(study.epoch[step.config_id]) + 1, "out of memory")
        else:
            study.tell(step, rows[:1])
            rows = rows[1:]
        under_way[k] = (step, rows)
        under_way = [(s, r) for s, r in under_way if study.pending[s.config_id]]
    assert study.done and study.spent == length and not study.pending.any()
    assert len(set(study.order)) == len(study.order) == length


@each(*PLAIN)
def test_a_finite_pool_is_trained_to_the_last_cell_then_it_ends(name, table):
    study, objective = small(table, name, curves(5, 3))
    run(study, objective, quick(name))
    assert study.done and sorted(study.order) == [(i, e) for i in range(5) for e in (1, 2, 3)]
    assert study.ask(quick(name)) is None


@each(*PLAIN)
def test_one_configuration(name, table):
    study, objective = small(table, name, curves(1, 4))
    run(study, objective, quick(name))
    assert study.spent == 4 and quick(name).recommend(study) == 0


@each(*PLAIN)
def test_one_epoch(name, table):
    study, objective = small(table, name, curves(6, 1), budget=4)
    run(study, objective, quick(name))
    assert study.spent == 4 and (study.epoch > 0).sum() == 4


@each(*PLAIN)
def test_a_budget_of_one_epoch(name, meta):
    study, objective = replay_study(meta, "t0", budget=1, method=name)
    assert len(run(study, objective, quick(name))) == 1 and study.spent == 1


@each(*PLAIN)
def test_configurations_that_are_all_alike(name, table):
    meta = table(curves(5, 3))
    # equal ones would be one: these differ by less than any encoding resolves
    alike = {number: {"x": 0.5 + number * 1e-13} for number in meta.config_ids}
    meta = meta.build(meta.space, alike, meta.table, **meta.about)
    study, objective = replay_study(meta, "t0", budget=10_000, method=name)
    run(study, objective, quick(name))
    assert study.done and study.spent == 15


@each(*PLAIN)
def test_values_that_are_all_alike(name, table):
    for value in (0.0, 0.7):
        study, objective = small(table, name, np.full((3, 6, 3), value))
        run(study, objective, quick(name))
        assert study.done and study.spent == 18, value


@each(*WITHOUT_PAST)
def test_the_unit_of_the_metric_does_not_matter(name, table):
    """Shares, or hundreds to a thousand: a power of two, since fits amplify differences in the last
    digit.
    """
    orders = []
    for factor in (1.0, 1024.0):
        study, objective = replay_study(table(rising() * factor), "t0", budget=30, method=name)
        run(study, objective, quick(name))
        orders.append(study.order)
    assert orders[0] == orders[1]


@each(*WITHOUT_PAST)
def test_a_budget_below_one_step(name, table):
    longer = {"epochs": 5} if name in ("dyhpo", "dyhpo+", "dpl") else {}
    for budget in (1, 2):
        study, objective = replay_study(table(rising()), "t0", budget=budget, method=name)
        run(study, objective, quick(name, **longer))
        assert study.spent == budget


@pytest.fixture(scope="module")
def huge():
    """Ten thousand configurations and their space."""
    space = synthetic_space()
    return space, space.sample(10_000, np.random.default_rng(0))


@pytest.mark.slow
@each(*WITHOUT_PAST)
def test_ten_thousand_candidates(name, huge):
    """Fifteen decisions, half of them under a second."""
    space, configs = huge
    plan = Plan(task="t", metric="accuracy", goal="maximize", max_epoch=9, budget=1000, method=name)
    study, chosen, seconds = Study(space, configs, plan), quick(name), []
    for _ in range(15):
        began = time.process_time()
        step = study.ask(chosen)
        seconds.append(time.process_time() - began)
        distance = abs(np.log10(configs[step.config_id]["learning_rate"]) + 2)
        study.tell(step, [1 / (1 + distance)] * step.epochs)
    assert np.median(seconds) < 1.0


@each(*PLAIN)
def test_losses_of_any_size(name, table):
    """As in TaskSet: to be minimised, some up to 1e34, some diverged."""
    values = 3.0 - curves(12, 6)
    values[:, 3] *= 1e34
    values[:, 5, 2:] = np.nan
    study, objective = small(table, name, values, goal="minimize", budget=40)
    run(study, objective, quick(name))
    assert study.spent == 40 and (study.failed == (np.arange(12) == 5))[study.epoch > 2].all()


@each(*PLAIN)
def test_half_of_all_configurations_fail(name, table):
    rng = np.random.default_rng(0)
    values = curves(12, 4)
    for i in range(0, 12, 2):
        values[:, i, rng.integers(0, 4) :] = np.nan
    study, objective = small(table, name, values)
    run(study, objective, quick(name))
    assert study.done and study.failed.sum() == 6 and (study.epoch[~study.failed] == 4).all()
    assert study.best[quick(name).recommend(study)] > -math.inf


@each(*PLAIN)
def test_everything_fails_from_the_start(name, table):
    values = curves(6, 3)
    values[0] = np.nan
    study, objective = small(table, name, values)
    run(study, objective, quick(name))
    assert study.done and study.failed.all() and study.spent == 6 and study.incumbent is None
    quick(name).recommend(study)  # nothing is known; it must not raise


@pytest.mark.slow
@each(*PLAIN)
def test_an_open_space_is_searched(name, meta):
    """Without a pool, beside past tasks: legal configurations, none started twice."""
    plan = Plan(
        task="t",
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=meta.max_epoch,
        budget=min(25, length_for(name)),
        open=True,
        method=name,
    )
    study = Study(meta.space, [], plan, past=meta)
    chosen = quick(name)
    while step := study.ask(chosen):
        value = 1.0 / (1.0 + abs(math.log10(study.configs[step.config_id]["learning_rate"]) + 2))
        study.tell(step, [value] * step.epochs)
    assert study.done and study.spent == plan.budget
    for config in study.configs:
        study.space.check(config)
    started = [meta.space.encode([study.configs[i]]).tobytes() for i in study.started]
    assert len(set(started)) == len(started)


@pytest.fixture(scope="module")
def eight():
    """A discrete conditional space of 8 configurations: momentum with sgd only, and as often drawn
    as adam.
    """
    space = ConfigurationSpace()
    optimizer = Categorical("optimizer", ["sgd", "adam"])
    momentum = Categorical("momentum", [0.5, 0.9, 0.99], ordered=True)
    space.add(optimizer, momentum, Integer("depth", (1, 2)))
    space.add(EqualsCondition(momentum, optimizer, "sgd"))
    return Space(space)


@pytest.mark.slow
@each(*WITHOUT_PAST)
def test_an_open_space_of_few_configurations_is_trained_to_the_last_epoch(name, eight, monkeypatch):
    """As a finite pool is: no configuration started twice, none left out while the budget pays."""
    monkeypatch.setattr("foretune.searchers.base.TRIES", 10)
    # the rarest of the eight is drawn with probability 1/12: missed with (11/12)^250, 4e-10
    monkeypatch.setattr("foretune.searchers.base.LAST_TRIES", 250)
    plan = Plan(
        task="t",
        metric="accuracy",
        goal="maximize",
        max_epoch=3,
        budget=1000,
        open=True,
        method=name,
    )
    study = Study(eight, [], plan)
    chosen = quick(name)
    while step := study.ask(chosen):
        config = study.configs[step.config_id]
        top = 0.5 + 0.1 * config["depth"] - 0.3 * abs(config.get("momentum", 0.8) - 0.9)
        study.tell(step, [top * (1 - 0.5**epoch) for epoch in range(step.start + 1, step.stop + 1)])
    assert len(study.configs) == 8 and sorted(study.order) == [
        (i, e) for i in range(8) for e in (1, 2, 3)
    ]


@each(*PLAIN)
def test_without_past_tasks_it_works_or_says_so(name, meta):
    study, objective = replay_study(meta, "t0", budget=12, sources=[], method=name)
    if METHODS[name].needs_past:
        with pytest.raises(BadInput, match="past"):
            run(study, objective, quick(name))
    else:
        run(study, objective, quick(name))
        assert study.spent == 12


@each(*PLAIN)
def test_past_tasks_that_are_partial_or_unrelated(name, table):
    """One past task known in few cells, one empty, one constant."""
    values = curves(8, 4, tasks=5)
    values[2] = 0.5
    meta = table(values)
    frame = meta.table
    frame = frame[~((frame["task"] == "t1") & (frame["config_id"] > 20)) & (frame["task"] != "t3")]
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    meta = meta.build(meta.space, configs, frame, **meta.about)
    study, objective = replay_study(meta, "t0", budget=20, method=name)
    run(study, objective, quick(name))
    assert study.spent == 20


@each(*SPECIAL)
def test_a_special_method_refuses_a_plain_study_in_words(name, meta):
    study, _ = replay_study(meta, "t0", budget=9, method=name)
    with pytest.raises(BadInput, match=name):
        study.ask(searcher(name))
