"""The base of searchers, and drawing a fresh configuration."""

import numpy as np
import pytest

from foretune.searchers.base import Searcher, adopt_past, best_startable, draw
from foretune.space.space import Space
from foretune.study.study import Plan, Step, Study

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
    adopt_past(opened)
    assert opened.configs == meta.configs and opened.past_ids.tolist() == list(range(40))
    narrow = Study(Space(SMALL), [], plan, past=meta)
    adopt_past(narrow)
    assert narrow.configs == []  # not of this space
    closed = Study(
        meta.space,
        meta.configs[:3],
        Plan(task="t", metric="s", goal="maximize", max_epoch=9, budget=9),
        past=meta,
    )
    adopt_past(closed)
    assert len(closed.configs) == 3


def test_draw_is_uniform_over_the_pool():
    s = study([{"a": "x"}, {"a": "y"}, {"a": "z"}])
    counts = np.bincount([draw(s, np.random.default_rng(k)) for k in range(600)])
    assert counts.min() > 150


def test_an_open_space_never_gives_a_known_configuration_and_ends_with_the_space():
    s = study([], open=True)
    for k in range(3):
        config_id = draw(s, np.random.default_rng(k))
        assert config_id == k  # all new
        s.tell(Step(config_id, 0, 3), [0.1] * 3)
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
        while (config_id := draw(s, np.random.default_rng([seed, s.spent]))) is not None:
            s.tell(Step(config_id, 0, 1), [0.1])
        assert s.spent == 200


def test_an_open_study_falls_back_on_its_pool_when_sampling_finds_nothing_new():
    s = study([{"a": "x"}, {"a": "y"}, {"a": "z"}], open=True)
    s.tell(Step(0, 0, 3), [0.1] * 3)
    assert draw(s, np.random.default_rng(0)) in (1, 2) and len(s.configs) == 3


def test_the_best_that_can_be_started_is_added_alone():
    s = study([{"a": "x"}], open=True)
    s.tell(Step(0, 0, 1), [0.1])
    configs = [{"a": "y"}, {"a": "x"}, {"a": "z"}]
    assert best_startable(s, configs, np.array([0.5, 0.9, 0.1])) == 1  # x is best, but was started
    assert s.configs == [{"a": "x"}, {"a": "y"}]
    assert best_startable(s, configs, np.array([0.5, 0.9, 0.1])) == 1  # known, and not started yet
    assert best_startable(s, [{"a": "x"}], np.array([1.0])) is None
