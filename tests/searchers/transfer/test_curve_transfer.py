"""The default transfer searcher: better than random search on related tasks, not worse under a
misleading past, mindful of its budget.
"""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.gray_box.random import Random
from foretune.searchers.registry import DEFAULT_WITHOUT_PAST, searcher
from foretune.searchers.transfer.curve_transfer import (
    CurveTransfer,
    affordable,
    concordance,
    leaning,
    observations,
    until_deadline,
)
from foretune.shipped import LIGHT
from foretune.study.pace import Costs
from foretune.study.study import Plan, Step, Study


def regret(
    meta: MetaDataset, make, budget: int, seeds=(0,), tasks=None, past: MetaDataset | None = None
) -> float:
    """Mean normalized regret at the end of the budget; `past` stands in for the other tasks'
    curves.
    """
    ends = []
    for task in tasks or meta.tasks:
        for seed in seeds:
            study, objective = replay_study(meta, task, budget=budget, seed=seed)
            if past is not None:
                study = Study(
                    meta.space,
                    meta.configs,
                    study.plan,
                    past=past.select([t for t in past.tasks if t != task]),
                )
            *_, last = replay(study, objective, make(), Score(meta, task))
            ends.append(last["normalized_regret"])
    return float(np.mean(ends))


def shuffled(meta: MetaDataset) -> MetaDataset:
    """Every task's curves dealt out to other configurations at random."""
    rng, frame = np.random.default_rng(0), meta.table.copy()
    for task in meta.tasks:
        deal = dict(zip(meta.config_ids, rng.permutation(meta.config_ids), strict=True))
        own = frame["task"] == task
        frame.loc[own, "config_id"] = frame.loc[own, "config_id"].map(deal)
    return meta.build(
        meta.space, dict(zip(meta.config_ids, meta.configs, strict=True)), frame, **meta.about
    )


def test_beats_random_search_on_related_tasks():
    meta = synthetic_meta(seed=0)
    assert regret(meta, CurveTransfer, 9) < 0.3 * regret(meta, Random, 9, seeds=range(5))


def test_a_misleading_past_does_no_harm_beyond_noise():
    """Against Hyperband, which goes without: random search is so much worse that even a searcher
    that trusts its past would pass.
    """
    meta = synthetic_meta(seed=1)
    plain = regret(meta, lambda: searcher(DEFAULT_WITHOUT_PAST), 45, seeds=range(3))
    assert regret(meta, CurveTransfer, 45, past=shuffled(meta)) < plain + 0.03


def test_what_no_past_task_knows_is_not_taken_for_the_best():
    """A past of low learning rates only: what it knows is tried first, where a conditional mean
    would make the untried high ones the best of all.
    """
    meta = MetaDataset.load(LIGHT)
    low = {
        k: c
        for k, c in zip(meta.config_ids, meta.configs, strict=True)
        if c["learning_rate"] < 0.005
    }
    assert len(low) == 54
    past = meta.build(meta.space, low, meta.table[meta.table["config_id"].isin(low)], **meta.about)
    some = meta.tasks[::2]
    plain = regret(meta, Random, 10, seeds=range(5), tasks=some)
    assert (
        regret(meta, CurveTransfer, 10, tasks=some, past=past) < 0.4 * plain
    )  # .08 against .41; with the conditional mean .43


def mirrored(meta: MetaDataset) -> MetaDataset:
    """Every task's best configuration gets the curve of its worst, the second best that of the
    second worst, and so on.
    """
    frame = meta.table.copy()
    for task, best in zip(meta.tasks, meta.best(), strict=True):
        order = np.argsort(np.nan_to_num(best, nan=-np.inf))
        ids = np.array(meta.config_ids)
        own = frame["task"] == task
        frame.loc[own, "config_id"] = frame.loc[own, "config_id"].map(
            dict(zip(ids[order], ids[order[::-1]], strict=True))
        )
    return meta.build(
        meta.space, dict(zip(meta.config_ids, meta.configs, strict=True)), frame, **meta.about
    )


def test_anti_correlated_tasks_do_no_harm_beyond_noise():
    """After five full trainings; the first one goes by the history, and the next ones find out."""
    meta = synthetic_meta(seed=1)
    plain = regret(meta, lambda: searcher(DEFAULT_WITHOUT_PAST), 45, seeds=range(3))
    assert regret(meta, CurveTransfer, 45, past=mirrored(meta)) < plain + 0.03


def test_controls_are_tried_after_the_first_full_training_only_and_in_number():
    meta = synthetic_meta(tasks=4, configs=30, epochs=30)
    study, chosen = study_of(meta.select(["t1", "t2", "t3"]), budget=60), CurveTransfer()
    assert chosen.control(study) is None
    order = np.argsort(-chosen.prior(study).past.mean.max(axis=1))
    study.tell(study.ask(Fixed(int(order[0]), 30)), meta.curves("t0")[order[0]])
    places = []
    while (c := chosen.control(study)) is not None:
        step = study.ask(chosen)
        assert step.config_id == c and step.stop == 1 and step.because["why"].startswith("control")
        study.tell(step, [0.5])
        places.append(int(np.flatnonzero(order == c)[0]))
    assert places == [29]  # the last of the past's order


def study_of(meta: MetaDataset, budget: int = 30, **more) -> Study:
    plan = Plan(
        task="new", metric=meta.metric, goal=meta.goal, max_epoch=meta.max_epoch, budget=budget
    )
    return Study(meta.space, meta.configs, plan, past=meta, **more)


def test_deadlines_are_one_two_five_trainings_or_the_budget():
    meta = synthetic_meta(tasks=2, configs=10, epochs=9)
    study = study_of(meta, budget=200)
    assert until_deadline(study) == 9
    for c, left in ((0, 9), (1, 27), (2, 18), (3, 9), (4, 45)):
        step = study.ask(Fixed(c, 9))
        study.tell(step, [0.5] * 9)
        assert until_deadline(study) == left
    assert until_deadline(study_of(meta, budget=4)) == 4


class Fixed(Random):
    """Suggests one given step."""

    def __init__(self, config_id: int, stop: int):
        self.config_id, self.stop = config_id, stop

    def suggest(self, study, rng):
        from foretune.study.study import Step

        return Step(self.config_id, int(study.epoch[self.config_id]), self.stop)


def test_the_last_epochs_go_to_what_can_still_improve():
    """With two epochs left of a budget, a trial that is nearly done is finished; a fresh one,
    promising as it is, cannot get there.
    """
    meta = synthetic_meta(tasks=4, configs=40, epochs=9)
    study = study_of(meta.select(["t1", "t2", "t3"]), budget=18)
    truth = meta.curves("t0")
    good = np.argsort(-np.nan_to_num(truth[:, -1]))[:2]
    for c, stop in ((int(good[0]), 9), (int(good[1]), 7)):
        study.tell(study.ask(Fixed(c, stop)), truth[c, :stop])
    step = study.ask(CurveTransfer())
    assert step.start > 0 or truth[step.config_id, : step.stop].max() > truth[good[0]].max() - 0.05
    assert step.stop - step.start <= 2


def test_observations_keep_the_ladder_the_newest_and_failures():
    meta = synthetic_meta(tasks=2, configs=10, epochs=9)
    study = study_of(meta)
    study.tell(study.ask(Fixed(3, 6)), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    step = study.ask(Fixed(5, 3))
    study.tell(step, [0.2])
    study.fail(step, 2, "out of memory")
    c, e, y = observations(study, np.array([0, 3, 8]))
    seen = dict(zip(zip(c.tolist(), e.tolist(), strict=True), y.tolist(), strict=True))
    assert {k: v for k, v in seen.items() if k[0] == 3} == {
        (3, 0): 0.1,
        (3, 3): 0.4,
        (3, 4): 0.5,
        (3, 5): 0.6,
    }
    assert seen[(5, 1)] < 0.1  # below everything seen


def test_a_failed_configuration_is_not_suggested_nor_recommended_again():
    meta = synthetic_meta(tasks=3, configs=20, epochs=6)
    study, chosen = study_of(meta), CurveTransfer()
    step = study.ask(chosen)
    study.fail(step, 1, "out of memory")
    assert study.ask(chosen).config_id != step.config_id
    assert chosen.recommend(study) != step.config_id


def test_names_the_past_tasks_that_it_leans_on():
    meta = synthetic_meta(tasks=4, configs=30, epochs=6)
    study, objective = replay_study(meta, "t0", budget=12)
    list(replay(study, objective, CurveTransfer(), Score(meta, "t0")))
    past = study.steps[-1]["because"]["past"]
    assert 0 < sum(past.values()) <= 1.001 and set(past) <= {"t1", "t2", "t3"}
    assert leaning(np.array([0.0, 3.0, 1.0]), ("a", "b", "c")) == {"b": 0.75, "c": 0.25}
    assert leaning(np.zeros(2), ("a", "b")) == {}


def test_bad_options_and_a_missing_past_are_refused():
    with pytest.raises(BadInput, match="growth=-1"):
        CurveTransfer(growth=-1)
    meta = synthetic_meta(tasks=2, configs=5, epochs=3)
    plan = Plan(task="new", metric=meta.metric, goal=meta.goal, max_epoch=3, budget=9)
    with pytest.raises(BadInput, match="no past tasks|there are none"):
        Study(meta.space, meta.configs, plan).ask(CurveTransfer())


def test_goes_for_full_trainings_where_the_past_says_so(table):
    """Two niches, told apart by the last epochs only: after the first winner the second one is
    trained to the end, without a detour.
    """
    rng = np.random.default_rng(0)
    top = np.linspace(0, 0.6, 20)[None] + rng.normal(0, 0.005, (9, 20))
    top[::2, 3], top[1::2, 7] = 0.9, 0.9
    shape = np.where(np.arange(1, 13) > 11, 1.0, 0.1)
    meta = table(top[:, :, None] * shape + rng.normal(0, 0.01, (9, 20, 12)) * (shape < 1))
    study, _ = replay_study(meta, "t1", budget=26)
    truth = meta.curves("t1")
    study.tell(study.ask(Fixed(3, 12)), truth[3])
    chosen = CurveTransfer()
    step = study.ask(chosen)
    study.tell(step, truth[step.config_id, :1])
    assert "control" in study.steps[-1]["because"]["why"]
    gains = chosen.full_gains(study, chosen.belief(study), 12)
    assert gains.argmax() == 7 and gains[7] > 0.1 and gains[3] == 0
    while study.epoch[7] < 12:
        step = study.ask(chosen)
        assert step.config_id == 7 and step.because["past"]
        study.tell(step, truth[7, step.start : step.stop])
    assert (
        study.incumbent[0] == 7
        and sum("full training" in s["because"].get("why", "") for s in study.steps) > 3
    )


def test_no_full_trainings_before_the_first_nor_where_probing_pays():
    meta = synthetic_meta(tasks=5, configs=40, epochs=9)
    study, objective = replay_study(meta, "t0", budget=27)
    chosen = CurveTransfer()
    assert chosen.full_gains(study, chosen.belief(study), 9) is None
    list(replay(study, objective, chosen, Score(meta, "t0")))
    assert not any("full training" in s["because"].get("why", "") for s in study.steps)


def test_concordance_is_the_weighted_share_of_pairs_in_the_past_order():
    meta = synthetic_meta(tasks=4, configs=30, epochs=9)
    study, chosen = study_of(meta.select(["t1", "t2", "t3"])), CurveTransfer()
    past = chosen.prior(study).past
    assert concordance(study, past) == 1.0
    a, b, c = np.argsort(-past.mean[:, 1])[[0, 12, 25]]
    # only the second and third are the other way round
    for config, value in ((a, 0.5), (b, 0.2), (c, 0.3)):
        study.tell(study.ask(Fixed(int(config), 2)), [0.1, value])
    m = past.mean[:, 1]
    wrong = m[b] - m[c]
    assert concordance(study, past) == pytest.approx(
        1 - wrong / (m[a] - m[b] + m[a] - m[c] + wrong)
    )


@pytest.fixture
def begun():
    """A study of a budget of time whose first configurations have told an epoch of 2 seconds."""

    def make(seconds_of=lambda config: 2.0, seconds=400.0):
        meta = synthetic_meta(seed=0)
        study, objective = replay_study(meta, meta.tasks[0], budget=60, seed=0)
        plan = replace(study.plan, budget=None, seconds=seconds)
        timed = Study(meta.space, meta.configs, plan, past=study.past)
        timed.costs = Costs(lambda c: (seconds_of(c), seconds_of(c)), early=lambda c: 0)
        for k, i in enumerate((0, 3, 5)):
            rows = objective.run(i, meta.configs[i], 0, 1).rows
            row = {**rows[-1], "seconds": seconds_of(meta.configs[i])}
            timed.tell(Step(i, 0, 1), [row], elapsed=2.0 * (k + 1))
        return timed

    return make


def test_where_time_is_the_budget_what_is_dear_has_to_promise_more(begun):
    """Equal costs change nothing; the favourite at fifty times the cost of the rest is passed by."""
    rng = np.random.default_rng(0)
    usual = CurveTransfer().suggest(begun(), rng)
    by_epochs = begun()
    by_epochs.plan = replace(by_epochs.plan, budget=by_epochs.budget, seconds=None)
    assert CurveTransfer().suggest(by_epochs, rng).config == usual.config
    favourite = begun().configs[usual.config]
    dear = begun(lambda c: 100.0 if c == favourite else 2.0)
    assert CurveTransfer().suggest(dear, rng).config != usual.config


def test_a_cheap_configuration_reaches_more_epochs_before_the_deadline(begun):
    study = begun(lambda c: 1.0 if c == synthetic_meta(seed=0).configs[1] else 2.0)
    reach = affordable(study, 4)
    assert reach[1] == 8 and set(np.delete(reach, 1)) == {4}
