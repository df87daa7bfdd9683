"""ASHA promotes as Algorithm 2 says, never waits, and beats random search."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.gray_box.asha import ASHA, promotion, rungs


def test_rungs():
    assert rungs(81, 3) == [1, 3, 9, 27, 81]
    assert rungs(51, 3) == [2, 6, 17, 51]
    assert rungs(9, 3, first=9) == [9] and rungs(1, 3) == [1]
    with pytest.raises(BadInput, match="eta"):
        rungs(9, 1.0)
    with pytest.raises(BadInput, match="first=10"):
        rungs(9, 3, first=10)


def test_the_best_third_of_a_rung_is_promoted_once(table):
    values = np.tile(np.linspace(0.1, 0.9, 8)[:, None], (1, 9))[None]
    study, _objective = replay_study(table(values), "t0", budget=100)
    levels = [1, 3, 9]
    from foretune.study.study import Step

    for i in (0, 1):
        step = Step(i, 0, 1)
        study.tell(step, [values[0, i, 0]])
    assert promotion(study, levels, 3) is None  # 2 finished: floor(2 / 3) = 0
    study.tell(Step(2, 0, 1), [values[0, 2, 0]])
    due = promotion(study, levels, 3)
    assert (due.config, due.start, due.stop) == (2, 1, 3)
    study.tell(Step(2, 1, 3), [0.3, 0.3])
    assert promotion(study, levels, 3) is None  # already promoted
    for i in (5, 6, 7):
        study.tell(Step(i, 0, 1), [values[0, i, 0]])
    due = promotion(study, levels, 3)
    assert (due.config, due.start, due.stop) == (
        7,
        1,
        3,
    )  # 6 finished rung 0: the best two are 7 and 6


def test_no_worker_waits(table):
    study, _ = replay_study(
        table(np.random.default_rng(0).random((1, 30, 9))), "t0", budget=200, method="asha"
    )
    asked = [study.ask(ASHA()) for _ in range(20)]
    assert len({s.config_id for s in asked}) == 20


def test_it_beats_random_search(regrets, random_regret):
    assert regrets("asha", 80) < 0.7 * random_regret
