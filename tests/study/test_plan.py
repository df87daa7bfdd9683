"""What defines a study, and the step."""

import pytest

from foretune.errors import BadInput
from foretune.study.plan import Plan, Step

GOOD = {"task": "t", "metric": "accuracy", "goal": "maximize", "max_epoch": 9, "budget": 90}


def test_a_step_costs_its_new_epochs():
    assert Step(3, 4, 9).epochs == 5 and Step(3, 4, 9).because == {}


def test_the_sign_turns_losses():
    assert Plan(**GOOD).sign == 1.0 and Plan(**{**GOOD, "goal": "minimize"}).sign == -1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": "best"}, "goal='best' must be 'maximize' or 'minimize'"),
        ({"max_epoch": 0}, "max_epoch=0 must be at least 1"),
        ({"budget": 0}, "budget=0 must be at least 1"),
        ({"budget": -3}, "budget=-3"),
        ({"seconds": 0.0}, "seconds=0.0 must be positive"),
        ({"seconds": float("nan")}, "seconds=nan"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    Plan(**GOOD)
    with pytest.raises(BadInput, match=message):
        Plan(**{**GOOD, **change})
