"""A study ends when what the rest of the budget can still gain is worth less than it costs."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.grid import full_grid, past_of
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.anchored import Anchored
from foretune.searchers.base import Searcher
from foretune.searchers.prospect import Prospect, best_prospect
from foretune.searchers.registry import searcher
from foretune.searchers.when_done import (
    WhenDone,
    note_stop,
    said_of_stop,
    until_done,
    useless_stop,
)
from foretune.shipped import LIGHT
from foretune.study.plan import Plan


def test_the_best_prospect_is_the_largest_gain_less_cost():
    gain = np.array([[0.01, 0.03], [0.02, 0.05]])
    epochs = np.array([[1, 4], [2, 9]])
    possible = np.array([[True, True], [True, False]])
    assert best_prospect(gain, epochs, possible, 0.001) == Prospect(0.03, 4, pytest.approx(0.026))
    assert best_prospect(gain, epochs, possible, 0.009) == Prospect(0.02, 2, pytest.approx(0.002))
    assert best_prospect(gain, epochs, np.zeros_like(possible), 0.001) is None


@pytest.fixture(scope="module")
def table():
    return full_grid(MetaDataset.load(LIGHT))


def play(table, worth, trainings=10):
    """A study of the first task until it is done, or without budget."""
    task = table.tasks[0]
    past = past_of(table)[task]
    study, objective = replay_study(
        table, task, budget=trainings * table.max_epoch, sources=past, method="curve-transfer"
    )
    chosen = until_done(searcher("curve-transfer"), study.plan, worth)
    for _ in replay(study, objective, chosen, Score(table, task)):
        pass
    return study, chosen


def test_a_study_whose_trainings_are_dear_ends_early_and_says_what_was_saved(table):
    study, chosen = play(table, 0.05)
    assert table.max_epoch <= study.spent < study.budget and not study.done
    note_stop(study, chosen)
    noted = study.plan.notes.extra["stopped"]
    assert noted["saved"] == study.budget - study.spent and noted["worth"] == 0.05
    assert noted["gain"] < 0.05 * noted["epochs"] / study.max_epoch
    line = said_of_stop(study)
    assert line.startswith(f"done early: {noted['saved']} of {study.budget} epochs saved; ")


def test_one_whose_trainings_cost_next_to_nothing_spends_all(table):
    study, chosen = play(table, 1e-9, trainings=2)
    assert study.done
    note_stop(study, chosen)
    assert "stopped" not in study.plan.notes.extra and said_of_stop(study) is None


class Silent(Searcher):
    """Forecasts nothing."""

    def suggest(self, study, rng):
        return None


def test_a_method_that_forecasts_nothing_never_ends_a_study(table):
    study, _ = play(table, None, trainings=1)
    assert WhenDone(Silent(), 1.0).done(study) is None
    assert WhenDone(Anchored(Silent(), [0]), 1.0).done(study) is None
    plan = Plan("t", "accuracy", "maximize", 5, 10, method="hyperband")
    assert "hyperband forecasts no curves" in useless_stop(True, plan)[0]
    assert useless_stop(False, plan) == useless_stop(True, study.plan) == []


def test_nothing_is_judged_before_the_first_training(table):
    study, _ = replay_study(
        table, table.tasks[0], budget=20, sources=table.tasks[1:], method="curve-transfer"
    )
    assert WhenDone(searcher("curve-transfer"), 10.0).done(study) is None
    with pytest.raises(BadInput, match="worth=0 must be positive"):
        WhenDone(Silent(), 0.0)
