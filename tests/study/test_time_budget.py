"""A study with a budget of time: how many epochs it has room for, and what of it is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.searchers.base import Searcher
from foretune.study.pace import PARALLEL, Costs
from foretune.study.study import Plan, Step, Study


class Fixed(Searcher):
    """Suggests the steps it was given, in turn."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def suggest(self, study, rng):
        return self.steps.pop(0) if self.steps else None


def make(meta, seconds=100.0, budget=None, folder=None, costs=None, n=4):
    plan = Plan("t", "score", "maximize", 9, budget, seconds=seconds)
    study = Study(meta.space, meta.configs[:n], plan, folder=folder)
    study.costs = Costs(lambda config: (2.0, 2.0), early=lambda c: 0) if costs is None else costs
    return study


def told(study, i, epochs, seconds, elapsed):
    """Epochs one after another, the last of which ends at `elapsed`."""
    start = int(study.epoch[i])
    for k in range(epochs):
        row = {"epoch": start + k + 1, "score": 0.5, "seconds": seconds}
        study.tell(Step(i, start + k, 9), [row], elapsed - (epochs - 1 - k) * seconds)


def test_a_study_needs_a_budget_of_epochs_or_of_time():
    with pytest.raises(BadInput, match="budget=None and seconds=None"):
        Plan("t", "m", "maximize", 9, None)
    assert Plan.from_json(Plan("t", "m", "maximize", 9, None, seconds=5).to_json()).budget is None


def test_the_budget_is_what_time_has_room_for(meta):
    study = make(meta)
    assert study.budget == 42 and study.remaining == 42  # .85 of 100 s, at 2 s an epoch
    study.costs = Costs(lambda config: (2.0, 2.0), after=8.0, fixed=12.0, workers=2)
    assert study.budget == 68  # 80 s, twice
    assert make(meta, budget=10).budget == 10  # whichever ends first
    study.clock(50.0)
    assert study.budget == 25 and study.seconds_left == 30.0


def test_the_budget_follows_the_pace(meta):
    study = make(meta)
    told(study, 0, 9, 4.0, 36.0)
    told(study, 1, 5, 4.0, 56.0)
    # 44 s are left, at twice the expected seconds
    assert study.remaining == pytest.approx(11, abs=2) and study.budget == 14 + study.remaining
    assert np.allclose(study.relative_costs, 1.0, atol=0.1)


def test_steps_are_cut_to_what_ends_in_time_and_not_begun_where_none_does(meta):
    study = make(meta)
    told(study, 0, 9, 10.0, 70.0)
    left = study.ask(Fixed(Step(1, 0, 9)))
    assert left is not None and 3 <= left.stop <= 5  # 30 s at 10 s, or a little less
    study = make(meta)
    told(study, 0, 9, 30.0, 90.0)
    assert not study.available.any() and study.done and study.ask(Fixed(Step(1, 0, 9))) is None


def test_steps_that_cannot_be_broken_off_are_cut_earlier(meta):
    study = make(meta, costs=Costs(lambda config: (2.0, 2.0), early=lambda c: 0, break_off=False))
    told(study, 0, 9, 10.0, 70.0)
    assert study.ask(Fixed(Step(1, 0, 9))).stop == 2


def test_an_estimate_alone_refuses_nothing(meta):
    study = make(meta, costs=Costs(lambda config: (1e6, 1e6)))
    assert study.available.all() and study.ask(Fixed(Step(0, 0, 9))).stop == 1


def test_what_is_dear_is_charged_and_left_alone_when_it_no_longer_fits(meta):
    dear = meta.configs[3]
    study = make(
        meta, costs=Costs(lambda c: (20.0, 20.0) if c == dear else (1.0, 1.0), early=lambda c: 0)
    )
    # of the pool's mean, which is what an epoch of the budget stands for
    assert study.relative_costs.tolist() == pytest.approx([k / 5.75 for k in (1, 1, 1, 20)])
    assert study.budget == pytest.approx(100.0 * PARALLEL / 5.75, abs=2)
    told(study, 0, 9, 1.0, 90.0)
    assert study.available.tolist() == [False, True, True, False] and study.reach[1] == 9


def test_where_epochs_are_the_budget_time_is_no_matter(meta):
    plan = Plan("t", "score", "maximize", 9, 20)
    study = Study(meta.space, meta.configs[:4], plan)
    told(study, 0, 3, 1e6, 3e6)
    assert study.budget == 20 and (study.relative_costs == 1).all() and (study.reach == 9).all()


def test_nothing_known_of_costs_and_nothing_seen_sets_no_limit(meta):
    study = make(meta, costs=Costs())
    assert study.timeless and study.budget == 90 and (study.reach == 9).all()
    told(study, 0, 2, 10.0, 20.0)
    assert not study.timeless and study.budget < 15


def test_a_concluded_study_stays_so_until_it_has_more(meta, tmp_path):
    study = make(meta, folder=tmp_path / "s")
    told(study, 0, 2, 10.0, 20.0)
    study.clock(97.0)
    study.conclude()
    assert study.done and study.out_of_time
    study.close()
    again = Study.load(tmp_path / "s")
    assert again.concluded and again.done and again.elapsed == 97.0 and again.times == [10.0, 20.0]
    again.raise_budget(None, 200.0)
    assert not again.done and again.seconds_left == pytest.approx(103.0)
    again.close()
    assert not Study.load(tmp_path / "s").concluded


def test_a_decision_keeps_the_time_it_was_made_at(meta, tmp_path):
    """A searcher is a function of the history, which has the time of each decision."""
    study = make(meta, folder=tmp_path / "s")
    study.clock(7.25)
    study.ask(Fixed(Step(1, 0, 3)))
    study.close()
    lines = (tmp_path / "s" / "journal.jsonl").read_text().splitlines()
    event = next(e for e in map(json.loads, lines) if e["event"] == "ask")
    assert event["elapsed"] == 7.25 and Study.load(tmp_path / "s").elapsed == 7.25


def test_views_of_an_open_study_have_their_own_pace(meta):
    plan = Plan("t", "score", "maximize", 9, None, seconds=100.0, open=True)
    study = Study(meta.space, meta.configs[:2], plan)
    study.costs = Costs(lambda config: (2.0, 2.0))
    view = study.with_configs(meta.configs[2:4])
    assert len(view.reach) == 4 and len(study.reach) == 2


def test_an_open_study_without_a_pool_knows_what_its_space_costs(meta):
    plan = Plan("t", "score", "maximize", 9, None, seconds=100.0, open=True)
    study = Study(meta.space, [], plan)
    study.costs = Costs(
        lambda config: (2.0, 2.0), early=lambda c: 0, final=lambda config: (1.0, 1.0)
    )
    assert study.final_seconds == pytest.approx(10.0)  # 5 epochs of 9
    assert study.budget == 38  # .85 of the 90 s that are left, at 2 s
    assert study.usual_pace.seconds == pytest.approx(2.0) and len(study.configs) == 0


def test_the_best_trial_keeps_the_time_of_its_final_training(meta):
    costs = Costs(lambda config: (2.0, 2.0), early=lambda c: 0, after=4.0, fixed=6.0)
    study = make(meta, costs=replace(costs, final=lambda config: (3.0, 3.0)))
    assert study.final_seconds == pytest.approx(30.0)  # of a middling one, before there is any
    told(study, 0, 4, 2.0, 20.0)
    assert study.seconds_to_end == pytest.approx(70.0)
    # the best epoch is the first, of 6 s; a second epoch of another is trained in 2 s and 12 s
    assert study.final_seconds == pytest.approx(6.0, rel=0.05)
    assert study.seconds_left == pytest.approx(64.0, rel=0.05)
    assert study.reach[1] == 8  # 2 s and 6 s an epoch in 70 s
    assert study.seconds_for_an_epoch[0] == pytest.approx(70.0 - 30.0, rel=0.05)
    late = make(meta, costs=replace(costs, final=lambda config: (3.0, 3.0)))
    told(late, 0, 9, 2.0, 84.5)
    assert late.seconds_left == 0 and late.out_of_time


def test_where_no_final_training_has_time_none_is_waited_for(meta):
    study = make(
        meta, costs=Costs(lambda c: (2.0, 2.0), early=lambda c: 0, final=lambda c: (60.0, 60.0))
    )
    assert study.available.all()  # an estimate alone refuses nothing
    told(study, 0, 2, 2.0, 4.0)
    assert study.final_seconds == 0 and study.seconds_left == pytest.approx(96.0)
    assert (study.reach >= 7).all()
