"""The anchors come first, whatever the searcher wants, and the searcher takes over after them."""

import numpy as np
from ConfigSpace import ConfigurationSpace, Float

from foretune.searchers.anchored import Anchored
from foretune.searchers.gray_box.random import Random
from foretune.space.space import Space
from foretune.study.study import Plan, Study


def empty_study(budget: int = 40) -> Study:
    space = Space(ConfigurationSpace({"x": Float("x", (0.0, 1.0))}))
    plan = Plan(task="t", metric="accuracy", goal="maximize", max_epoch=4, budget=budget)
    return Study(space, [{"x": k / 9} for k in range(10)], plan)


def test_anchors_are_trained_to_the_end_first_and_in_order():
    study, searcher = empty_study(), Anchored(Random(), [7, 3])
    taken = []
    while (step := study.ask(searcher)) is not None:
        taken.append((step.config_id, step.start, step.stop))
        study.tell(step, [0.1] * step.epochs)
    assert taken[:2] == [(7, 0, 4), (3, 0, 4)]
    assert len({c for c, _, _ in taken}) == 10


def test_an_anchor_that_was_interrupted_is_finished_and_a_failed_one_is_left():
    study, searcher = empty_study(), Anchored(Random(), [7, 3])
    step = study.ask(searcher)
    assert step is not None
    study.tell(step, [0.1, 0.2])
    study.release(step)
    again = study.ask(searcher)
    assert again is not None
    assert (again.config_id, again.start, again.stop) == (7, 2, 4)
    study.fail(again, 3, "out of memory")
    after = study.ask(searcher)
    assert after is not None
    assert after.config_id == 3


def test_with_a_second_worker_the_searcher_goes_on_beside_the_anchor():
    study, searcher = empty_study(), Anchored(Random(), [7])
    first, second = study.ask(searcher), study.ask(searcher)
    assert first is not None
    assert second is not None
    assert first.config_id == 7
    assert second.config_id != 7
    study.tell(first, [0.5] * 4)
    study.tell(second, [0.1] * 4)
    assert searcher.recommend(study) == 7
    assert np.isfinite(study.best).sum() == 2
