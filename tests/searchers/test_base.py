"""The base of searchers, and drawing a fresh configuration."""

import gc

import numpy as np
import pytest

from foretune.searchers.base import (
    PerStudy,
    Searcher,
    best_startable,
    draw,
    seen_from,
    with_choice,
    with_past,
)
from foretune.space.space import Space
from foretune.study.study import Plan, Step, Study, Suggestion

SWITCH = {
    "type": "categorical",
    "name": "a",
    "choices": ["x", "y", "z"],
    "weights": None,
    "default_value": "x",
    "meta": None,
}
SMALL = {
    "name": "small",
    "hyperparameters": [SWITCH],
    "conditions": [],
    "forbiddens": [],
    "format_version": 0.4,
}


def study(configs, **plan):
    return Study(
        Space(SMALL),
        configs,
        Plan(task="t", metric="score", goal="maximize", max_epoch=3, budget=100, **plan),
    )


def test_the_base_recommends_the_incumbent_and_suggests_nothing_by_itself():
    s = study([{"a": "x"}, {"a": "y"}])
    assert Searcher().recommend(s) is None
    s.tell(Step(1, 0, 1), [0.4])
    s.tell(Step(0, 0, 1), [0.3])
    assert Searcher().recommend(s) == 1
    with pytest.raises(TypeError, match="does not say what to suggest"):
        Searcher().suggest(s, np.random.default_rng(0))


def test_draw_takes_each_configuration_of_the_pool_once_then_none():
    s = study([{"a": "x"}, {"a": "y"}, {"a": "z"}])
    drawn = []
    for k in range(3):
        drawn.append(draw(s, np.random.default_rng(k)))
        s.tell(Step(drawn[-1], 0, 1), [0.1])
    assert sorted(drawn) == [0, 1, 2] and draw(s, np.random.default_rng(9)) is None


def test_an_open_study_adopts_what_the_past_knows_before_its_first_decision(meta):
    plan = Plan(task="t", metric="score", goal="maximize", max_epoch=9, budget=100, open=True)
    opened = Study(meta.space, meta.configs[:3], plan, past=meta)
    view = with_past(opened)
    assert view.configs == meta.configs and view.past_ids.tolist() == list(range(40))
    assert opened.configs == meta.configs[:3] and len(opened.X) == 3  # a view only
    narrow = Study(Space(SMALL), [], plan, past=meta)
    assert with_past(narrow) is narrow  # nothing is of this space
    closed = Study(
        meta.space,
        meta.configs[:3],
        Plan(task="t", metric="s", goal="maximize", max_epoch=9, budget=9),
        past=meta,
    )
    assert with_past(closed) is closed
    opened.ask(Fixed(seen_from(opened, view, Suggestion(5, 0, 1))))
    assert opened.configs == meta.configs and opened.pending[5] == 1
    assert with_past(opened) is opened  # once asked, its pool is its own


class Fixed:
    def __init__(self, suggestion):
        self.suggestion = suggestion

    def suggest(self, study, rng):
        return self.suggestion


def test_a_suggestion_on_a_view_names_what_the_study_does_not_know():
    s = study([{"a": "x"}], open=True)
    view = with_choice(s, {"a": "y"})
    assert view is not s and view.configs == [{"a": "x"}, {"a": "y"}]
    assert with_choice(s, 0) is s and with_choice(s, None) is s and with_choice(s, {"a": "x"}) is s
    old = seen_from(s, view, Suggestion(0, 0, 1, {"why": "w"}))
    assert old == Suggestion(0, 0, 1, {"why": "w"}, ({"a": "y"},))
    new = seen_from(s, view, Suggestion(1, 0, 1))
    assert new == Suggestion({"a": "y"}, 0, 1, {}, ({"a": "y"},))
    both = seen_from(s, view, Suggestion({"a": "z"}, 0, 1, {}, ({"a": "z"},)))
    assert both.config == {"a": "z"} and both.adopt == ({"a": "y"}, {"a": "z"})
    assert seen_from(s, view, None) is None and seen_from(s, s, old) is old
    assert s.ask(Fixed(both)).config_id == 2 and [c["a"] for c in s.configs] == ["x", "y", "z"]


def test_what_is_kept_of_a_study_goes_with_it():
    """The rule: a value belongs to one study in one state of it, and dies with the study."""
    cache, made = PerStudy(), []

    def value(s, state):
        return cache.get(
            s, state, lambda: made.append((s.plan.task, state)) or (s.plan.task, state)
        )

    for k in range(5):
        s = study([{"a": "x"}])
        object.__setattr__(s.plan, "task", f"t{k}")
        assert value(s, 1) == value(s, 1) == (f"t{k}", 1)
        assert value(s, 2) == (f"t{k}", 2)
        del s
        gc.collect()
    assert len(made) == 10 and len(cache._kept) == 0


def test_draw_is_uniform_over_the_pool():
    s = study([{"a": "x"}, {"a": "y"}, {"a": "z"}])
    counts = np.bincount([draw(s, np.random.default_rng(k)) for k in range(600)])
    assert counts.min() > 150


def test_an_open_space_never_gives_a_known_configuration_and_ends_with_the_space():
    s = study([], open=True)
    for k in range(3):
        config = draw(s, np.random.default_rng(k))
        assert len(s.configs) == k and s.id_of(config) is None  # new, and only drawn so far
        step = s.ask(Fixed(Suggestion(config, 0, 3)))
        assert step.config_id == k and s.configs[k] == config
        s.tell(step, [0.1] * 3)
    assert sorted(c["a"] for c in s.configs) == ["x", "y", "z"]
    assert draw(s, np.random.default_rng(3)) is None


def test_an_open_space_is_drawn_to_its_last_configuration():
    number = {
        "type": "uniform_int",
        "name": "a",
        "lower": 1,
        "upper": 200,
        "default_value": 1,
        "log": False,
    }
    space = Space(SMALL | {"hyperparameters": [number | {"meta": None}]})
    for seed in range(3):
        plan = Plan(
            task="t",
            metric="score",
            goal="maximize",
            max_epoch=1,
            budget=1000,
            open=True,
            seed=seed,
        )
        s = Study(space, [], plan)
        while (config := draw(s, np.random.default_rng([seed, s.spent]))) is not None:
            s.tell(s.ask(Fixed(Suggestion(config, 0, 1))), [0.1])
        assert s.spent == 200


def test_an_open_study_falls_back_on_its_pool_when_sampling_finds_nothing_new():
    s = study([{"a": "x"}, {"a": "y"}, {"a": "z"}], open=True)
    s.tell(Step(0, 0, 3), [0.1] * 3)
    assert draw(s, np.random.default_rng(0)) in (1, 2) and len(s.configs) == 3


def test_the_best_that_can_be_started_is_named_and_not_added():
    s = study([{"a": "x"}], open=True)
    s.tell(Step(0, 0, 1), [0.1])
    configs = [{"a": "y"}, {"a": "x"}, {"a": "z"}]
    # x is best, but was started
    assert best_startable(s, configs, np.array([0.5, 0.9, 0.1])) == {"a": "y"}
    assert s.configs == [{"a": "x"}]
    assert s.propose({"a": "y"}) == 1
    assert best_startable(s, configs, np.array([0.5, 0.9, 0.1])) == 1  # known, and not started yet
    assert best_startable(s, [{"a": "x"}], np.array([1.0])) is None
