"""A Python function as an objective."""

import json
import math
import re

import own_function
import pytest

from foretune.errors import BadInput
from foretune.running.objectives.function import Function, check_sendable
from foretune.running.objectives.trial_folder import TrialFolder

CONFIG = {"learning_rate": 0.25}


def objective(tmp_path, function=own_function.train, epochs=4, **more):
    """A function as an objective."""
    return Function(function, tmp_path, "acc", epochs, **more)


def values(outcome):
    """Epoch -> value."""
    return {row["epoch"]: row["acc"] for row in outcome.rows}


def test_a_trial_in_steps_has_the_curve_of_one_without(tmp_path):
    found, told = objective(tmp_path), []
    for start, stop in ((0, 1), (1, 3), (3, 4)):
        assert found.run(0, CONFIG, start, stop, told.append).failed is None
    assert [row["epoch"] for row in told] == [1, 2, 3, 4]
    assert [row["acc"] for row in told] == own_function.curve(0.25, 4)
    assert [row["loss"] for row in told] == [1 - v for v in own_function.curve(0.25, 4)]


def test_a_function_that_never_asks_is_stopped_and_starts_anew(tmp_path):
    found = objective(tmp_path, own_function.train_on_and_on, resume=False)
    assert values(found.run(0, CONFIG, 0, 2)) == dict(enumerate(own_function.curve(0.25, 2), 1))
    assert values(found.run(0, CONFIG, 2, 3)) == {3: own_function.curve(0.25, 3)[2]}


def test_a_checkpoint_that_is_ahead_of_the_reports_is_not_gone_on_from(tmp_path):
    """The function was killed between saving epoch 2 and reporting it."""
    found = objective(tmp_path)
    found.run(0, CONFIG, 0, 2)
    assert values(found.run(0, CONFIG, 1, 3)) == dict(enumerate(own_function.curve(0.25, 3)[1:], 2))


def test_the_best_epochs_checkpoint_is_kept(tmp_path):
    found = objective(tmp_path, maximize=False)
    found.run(0, CONFIG, 0, 2)
    found.run(0, CONFIG, 2, 4)  # values only grow
    best = json.loads(found.checkpoint(0, best=True).read_text(encoding="utf-8"))
    last = json.loads(found.checkpoint(0).read_text(encoding="utf-8"))
    assert (best["epoch"], last["epoch"]) == (1, 4)


@pytest.mark.parametrize(
    ("function", "epochs", "reason"),
    [
        (own_function.fail, 1, "KeyError: 'label'"),
        (own_function.run_out, 0, "out of memory: MemoryError:"),
        (own_function.return_early, 1, "the function returned after epoch 1; epoch 3 was asked"),
        (own_function.leave_out, 1, "BadInput: epoch 3 was reported after epoch 1"),
        (own_function.report_words, 0, "BadInput: column 'acc' must be a number"),
    ],
)
def test_whatever_a_function_does_is_an_outcome_with_a_reason(tmp_path, function, epochs, reason):
    outcome = objective(tmp_path, function).run(0, CONFIG, 0, 3)
    assert len(outcome.rows) == epochs and outcome.failed.startswith(reason)


def test_what_a_function_raised_stands_in_its_log(tmp_path):
    objective(tmp_path, own_function.fail).run(3, CONFIG, 0, 3)
    log = TrialFolder(tmp_path, 3).log.read_text(encoding="utf-8")
    assert "Traceback" in log and 'raise KeyError("label")' in log


def test_a_value_that_is_no_number_ends_the_trial(tmp_path):
    def diverge(config, trial):
        for epoch in range(1, 9):
            trial.report(epoch, math.nan if epoch == 2 else 0.5)
            if trial.should_stop:
                break

    outcome = objective(tmp_path, diverge).run(0, CONFIG, 0, 4)
    assert [row["epoch"] for row in outcome.rows] == [1, 2] and outcome.failed is None


def test_a_function_that_no_process_can_find_is_refused():
    check_sendable(own_function.train)
    with pytest.raises(BadInput, match=r"cannot find the function.*<lambda>.*workers=0"):
        check_sendable(lambda config, trial: None)


def leaves(config, trial):
    """A function that ends its process."""
    raise SystemExit(3)


def names_a_file(config, trial):
    """A function that fails with a name that no UTF-8 holds."""
    raise FileNotFoundError("no file caf\udce9.jpg")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (leaves, r"the function called sys\.exit\(3\)"),
        (names_a_file, r"FileNotFoundError: no file caf\\udce9\.jpg"),
    ],
)
def test_whatever_a_function_ends_with_is_its_trials_failure(tmp_path, function, said):
    outcome = objective(tmp_path, function).run(0, CONFIG, 0, 2)
    assert re.fullmatch(said, outcome.failed)
    outcome.failed.encode("utf-8")
