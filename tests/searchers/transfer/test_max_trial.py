"""Max-Trial-GP-UCB over a model that is given: the choice, the recommendation, pending and failed
trials.
"""

import numpy as np
import pytest
from laws import each, quick
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.gaussian.acquisition import max_trial_ucb
from foretune.searchers.registry import METHODS
from foretune.searchers.transfer.max_trial import MaxTrial, shares, sourced, support
from foretune.study.study import Suggestion


class Given(MaxTrial):
    """Predicts the given arrays and remembers what it was asked with."""

    name = "given"

    def __init__(self, mean, std, eta=0.25):
        super().__init__(eta)
        self._mean, self._std, self._asked = mean, std, []

    def learn(self, study, past):
        return past

    def predict(self, learned, study, Y):
        self._asked.append(Y.copy())
        return self._mean, self._std


def model(eta=0.25):
    mean, std = np.zeros((4, 3)), np.zeros((4, 3))
    mean[0], std[1], mean[2] = [0.5, 0.9, 0.1], [0, 0, 4.0], [0.95, 0.0, 0.0]
    return Given(mean, std, eta)


def study(budget=10):
    return replay_study(synthetic_meta(tasks=2, configs=4, epochs=3), "t0", budget=budget)[0]


def test_the_largest_bound_at_any_epoch_ahead_is_taken_for_one_epoch():
    s = study()
    step = s.ask(model())
    assert (step.config_id, step.start, step.stop) == (1, 0, 1)  # 0 + 0.25 * 4 beats 0.95
    s2 = study()
    step = s2.ask(model(eta=0.0))
    assert step.config_id == 2
    s2.tell(step, [0.3])
    # the epoch of 0.95 is observed: what is ahead of 2 is worth 0
    assert s2.ask(model(eta=0.0)).config_id == 0


def test_recommended_is_the_largest_mean_over_all_epochs_but_never_a_failure():
    s = study()
    searcher = model(eta=0.0)
    assert searcher.recommend(s) == 2
    s.fail(s.ask(searcher), 1, "out of memory")
    assert searcher.recommend(s) == 0


def test_pending_steps_count_as_expected_and_failures_as_the_worst():
    s, searcher = study(), model(eta=0.0)
    first = s.ask(searcher)
    s.tell(first, [0.3])
    second = s.ask(searcher)
    searcher.predicted(s)
    assert (
        searcher._asked[-1][second.config_id, second.stop - 1]
        == searcher._mean[second.config_id, second.stop - 1]
    )
    s.fail(second, 1, "out of memory")
    searcher.predicted(s)
    assert searcher._asked[-1][second.config_id, 0] == 0.3


def test_max_trial_and_shares():
    mean, std = np.array([[1.0, 5.0], [2.0, 2.0]]), np.array([[0.0, 0.0], [4.0, 8.0]])
    np.testing.assert_allclose(max_trial_ucb(mean, std, np.array([0, 1]), 0.5), [5.0, 6.0])
    assert max_trial_ucb(mean, std, np.array([2, 2]), 0.5)[0] == -np.inf
    assert shares(np.array([1.0, -2.0, 3.0]), ("a", "b", "c")) == {"c": 0.75, "a": 0.25}
    assert shares(np.zeros(2), ("a", "b")) == {}


TRANSFER = [
    n
    for n, m in METHODS.items()
    if m.needs_past and m.recommender is None and n not in ("mean-rank", "portfolio")
]


@each(*TRANSFER)
def test_every_step_of_a_transfer_method_says_which_past_tasks_it_leans_on(name):
    meta = synthetic_meta(tasks=4, configs=12, epochs=4)
    study, objective = replay_study(meta, "t0", budget=20, method=name)
    list(replay(study, objective, quick(name), Score(meta, "t0")))
    for step in study.steps:
        past = step["because"]["past"]
        assert past and set(past) <= {"t1", "t2", "t3"} and all(w >= 0 for w in past.values())
        assert sum(past.values()) == pytest.approx(1, abs=0.01)


def test_support_is_larger_where_the_configuration_did_well(table):
    values = np.zeros((3, 4, 2))
    values[0], values[1, 0], values[2, 3] = 0.5, 1.0, 1.0
    study, _ = replay_study(table(values + np.linspace(0, 0.1, 4)[None, :, None]), "t0", budget=4)
    past = support(study, 0)
    assert past["t1"] == 1.0 and past["t2"] == 0.0  # best of t1, worst of t2
    step = Suggestion(0, 0, 1, {"why": "x"})
    assert (
        sourced(step, study).because == {"why": "x", "past": past} and sourced(None, study) is None
    )
    named = Suggestion(0, 0, 1, {"why": "x", "past": {"t2": 1.0}})
    assert sourced(named, study) is named
