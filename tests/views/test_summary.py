"""The words and numbers that tracker and report share."""

import math

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.evaluation.replay import replay_study
from foretune.study.study import Step
from foretune.views import summary

META = synthetic_meta(goal="minimize")


@pytest.fixture
def study():
    found, _ = replay_study(META, "t0", budget=10)
    return found


def take(study, config_id, values, stop, **because):
    """Ask for a step by hand and tell its values."""

    class Given:
        def suggest(self, study, rng):
            return Step(config_id, int(study.epoch[config_id]), stop, because)

    step = study.ask(Given())
    study.tell(step, values)


def test_incumbent_trace_is_in_the_metrics_unit_and_counts_failed_epochs(study):
    take(study, 0, [0.9, 0.5], 2)
    take(study, 1, [0.6, math.nan], 3)
    take(study, 2, [0.3], 1)
    np.testing.assert_allclose(summary.incumbent_trace(study), [0.9, 0.5, 0.5, 0.5, 0.3])
    assert len(summary.incumbent_trace(study)) == study.spent
    assert summary.best_value(study, 0) == 0.5
    assert summary.best_value(study, 3) is None


def test_trace_is_nan_before_the_first_value(study):
    take(study, 1, [math.nan], 3)
    take(study, 0, [0.9], 1)
    assert np.isnan(summary.incumbent_trace(study)[0])
    assert summary.incumbent_trace(study)[1] == 0.9


def test_states(study):
    take(study, 0, [0.9] * 2, 2)
    take(study, 1, [math.nan], 3)
    take(study, 2, [0.3], 4)
    assert [summary.state(study, i) for i in range(3)] == ["paused", "failed", "training"]
    study.tell(Step(2, 1, 4), [0.3] * 3)
    take(study, 3, [0.4] * 3, 9)
    assert study.done
    assert summary.state(study, 0) == "stopped"


def test_past_shares_weigh_by_epochs(study):
    take(study, 0, [0.9], 1, past={"a": 2.0, "b": 2.0})
    take(study, 1, [0.9] * 3, 3, past={"b": 0.1, "bad": math.nan})
    assert summary.past_shares(study) == pytest.approx({"b": (0.5 + 3) / 4, "a": 0.5 / 4})
    assert summary.past_shares(study, 0) == {"a": 0.5, "b": 0.5}
    assert list(summary.past_shares(study)) == ["b", "a"]


def test_reasons_put_details_together(study):
    take(study, 0, [0.9], 1, why="mean rank: place 1")
    take(study, 1, [0.9], 1, why="mean rank: place 2")
    take(study, 2, [0.9], 1, why="promoted to 3 epochs")
    assert summary.reasons(study) == {"mean rank": 2, "promoted to n epochs": 1}
    assert summary.why_started(study)[1] == "mean rank: place 2"


def test_tuned_tells_differing_from_shared(study):
    study.configs[0] = {"learning_rate": 0.1, "optimizer": "adam", "finetune": "head"}
    study.configs[1] = {"learning_rate": 0.2, "optimizer": "adam", "finetune": "head"}
    take(study, 0, [0.9], 1)
    take(study, 1, [0.9], 1)
    assert summary.tuned(study) == (["learning_rate"], {"optimizer": "adam", "finetune": "head"})


def test_numbers_for_people():
    assert [summary.number(v) for v in (3, 12000, 0.0031622, 1e-5, 0.5, True, "adam", math.nan)] == [
        "3", "12,000", "0.003162", "1e-5", "0.5", "True", "adam", "–",
    ]  # fmt: skip
    assert summary.score("valid_accuracy", 0.93417) == "93.42 %"
    assert summary.score("valid_accuracy", 93.4) == "93.4"
    assert summary.score("valid_loss", 0.5) == "0.5"
    assert summary.score("valid_loss", None) == "–"


def test_a_configuration_in_a_line():
    assert (
        summary.describe({"learning_rate": 0.003, "optimizer": "adam", "finetune": "head"})
        == "lr 0.003 adam head"
    )
    assert summary.describe({"sgd.momentum": 0.9, "batch_size": 32}) == "momentum 0.9 bs 32"
    assert len(summary.describe({f"h{k}": 0.5 for k in range(50)})) <= 70

    assert (
        summary.spelled({"learning_rate": 0.000123456, "optimizer": "sgd"})
        == "learning_rate 0.0001235, optimizer sgd"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.5, "0.5 s"),
        (45.4, "45 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds, text):
    assert summary.duration(seconds) == text


def test_the_sentence(study):
    assert "no configuration has given a value" in summary.sentence(study)
    study.configs[0] = {"learning_rate": 0.1, "optimizer": "adam", "finetune": "head"}
    take(study, 0, [0.25], 1)
    line = (
        "After 1 of 10 epochs and 1 configuration, the best valid_error_rate is 25.00 %: "
        "configuration 0 at epoch 1, lr 0.1 adam head."
    )
    assert summary.sentence(study) == line


def test_decimals_of_a_huge_value_are_few():
    assert tuple(map(summary.decimals, (0.5, -12.34567, 1e308))) == ("0.5000", "-12.3457", "1e+308")
