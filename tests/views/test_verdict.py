"""What is said of a winner: that it is the default, that it is tied, or that it is not."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.study.study import Plan, Step, Study
from foretune.training.assessment import Assessment
from foretune.views.verdict import Judged, compared, verdict


def study_of(values: list[float], metric: str = "valid_accuracy") -> Study:
    """Trials of one epoch each, with these values."""
    meta = synthetic_meta()
    plan = Plan("t", metric, "maximize", 1, budget=len(values), method="random")
    study = Study(meta.space, meta.configs[: len(values)], plan)
    for i, value in enumerate(values):
        study.tell(Step(i, 0, 1), [value])
    return study


def test_two_proportions_say_who_is_tied() -> None:
    """On 300 images, .70 and .65 are tied (.0748 either way), .70 and .60 are not (.0759)."""
    lines = verdict(study_of([0.70, 0.65, 0.60]), Judged(300))
    assert lines == [
        "Tied within noise: 1 of the 2 other configurations (1). On 300 images, differences below "
        "7.5 points cannot be told from chance."
    ]
    assert verdict(study_of([0.70, 0.60, 0.50]), Judged(300)) == []


def test_the_default_configuration_is_named() -> None:
    study = study_of([0.70, 0.65, 0.40])
    winner, near, far = (study.configs[i] for i in range(3))
    assert verdict(study, Judged(300, winner))[0] == (
        "The winner is the default configuration: the search did not beat it with 2 others."
    )
    assert (
        "(trial 1) reached 65.00 %: winner and default are tied within noise (5.0 points"
        in (verdict(study, Judged(300, near))[0])
    )
    assert (
        "the winner is 30.0 points better, more than noise explains"
        in (verdict(study, Judged(300, far))[0])
    )


def test_a_default_that_was_cut_short_is_said_to_be() -> None:
    """It is no match of a winner that was trained for longer, and the comparison may say more."""
    meta = synthetic_meta()
    plan = Plan("t", "valid_accuracy", "maximize", 9, budget=12, method="random")
    study = Study(meta.space, meta.configs[:2], plan)
    study.tell(Step(0, 0, 9), [0.7] * 9)
    study.tell(Step(1, 0, 2), [0.5, 0.65])
    said = verdict(study, Judged(300, study.configs[1]))[0]
    assert "(trial 1) reached 65.00 % in 2 of 9 epochs: winner and default are tied" in said


def test_another_metric_is_judged_by_its_bootstrap_error_or_not_at_all() -> None:
    """.01 either of two: 1.96 * .0141 = .0277."""
    study = study_of([0.70, 0.68, 0.60], "valid_macro_f1")
    assert "1 of the 2" in verdict(study, Judged(300, error=0.01))[0]
    assert "below 0.0277 cannot" in verdict(study, Judged(300, error=0.01))[0]
    assert verdict(study, Judged(300)) == []


@pytest.mark.parametrize(("only", "word"), [(5, "tied within noise"), (6, "6.0 points better")])
def test_models_are_compared_on_the_same_images(only: int, word: str) -> None:
    labels = np.zeros(100, dtype=np.int64)

    def right(count: int) -> Assessment:
        sure = np.where(np.arange(100) < count, 0.9, 0.1)
        return Assessment(labels, np.stack([sure, 1 - sure], 1).astype(np.float32), ("a", "b"))

    line = compared(right(90), right(90 - only), "the default configuration")
    assert line is not None and word in line
    assert (
        compared(right(90), Assessment(labels[:9], np.ones((9, 2), np.float32), ("a", "b")), "x")
        is None
    )
