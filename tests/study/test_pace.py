"""What a study learns of its own pace, with costs that are known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from foretune.study.pace import EARLY_NOISE, NOISE, PARALLEL, Costs, pace_of, seconds_of

LINE = [{"x": k / 10} for k in range(11)]
X = np.linspace(0, 1, 11)[:, None]


def expected(config):
    """One second in the long run, five early; twice that at x above a half."""
    return (1.0, 5.0) if config["x"] <= 0.5 else (2.0, 10.0)


def rows(*seconds, first=1):
    return [{"epoch": e, "seconds": s} for e, s in enumerate(seconds, first)]


def test_before_anything_is_seen_it_is_what_was_expected():
    pace = pace_of(Costs(expected, workers=2), LINE, X, {}, 0.0)
    assert pace.seconds[[0, 10]] == pytest.approx([1, 2]) and not pace.timed
    assert np.exp(pace.early[[0, 10]]) == pytest.approx([5, 10])
    assert pace.parallel == 2 * PARALLEL and pace.scale == 1
    assert pace.doubt == pytest.approx(math.sqrt(1 + 0.3**2 + 0.15**2))


def test_a_slow_machine_is_slow_for_all():
    """Three times the expected seconds, seen often at both ends: so everywhere."""
    seen = {0: rows(15, *[3] * 30), 10: rows(30, *[6] * 30)}
    pace = pace_of(Costs(expected), LINE, X, seen, 300.0)
    assert pace.seconds == pytest.approx([3] * 6 + [6] * 5, rel=0.1)
    assert pace.scale == pytest.approx(3, rel=0.1) and (pace.doubt < 0.35).all()


def test_what_one_kind_costs_is_believed_of_its_like_more_than_of_others():
    seen = {0: rows(5, *[4] * 30), 10: rows(10, *[2] * 30)}  # four times as dear, and as expected
    shift = pace_of(Costs(expected), LINE, X, seen, 0.0).log - np.log([1] * 6 + [2] * 5)
    assert (np.diff(shift) < 0).all() and shift[0] == pytest.approx(math.log(4), rel=0.15)


def test_the_early_epochs_of_a_trial_are_measured_against_early_ones():
    pace = pace_of(Costs(expected), LINE, X, {0: rows(5.0)}, 5.0)
    assert pace.seconds[0] == pytest.approx(1) and pace.scale == pytest.approx(1)
    late = pace_of(Costs(expected), LINE, X, {0: rows(5.0, first=2)}, 5.0)
    assert late.seconds[0] > 4  # a later epoch that took as long is another matter


def test_early_epochs_that_are_hardly_dearer_are_believed_as_much_as_others():
    """Of a trial that keeps little, the early ones say what it costs, though others, of which most
    is kept, are three times as slow as expected; an early epoch of these may have found it kept.
    """
    costs = Costs(lambda c: (1.5, 1.6) if c["x"] < 1 else (0.01, 0.4), lambda c: 4)
    others = {10: rows(*[1.2] * 4, *[0.03] * 30)}
    pace = pace_of(costs, LINE, X, {0: rows(1.6, 1.6, 1.6), **others}, 10.0)
    assert math.exp(pace.early[0]) == pytest.approx(1.6, rel=0.15)
    found_kept = pace_of(costs, LINE, X, {10: rows(0.03)}, 1.0)
    assert found_kept.scale > 0.5  # and not a hundredth
    slow = pace_of(costs, LINE, X, {10: rows(20.0)}, 20.0)  # nobody finds that kept
    assert math.exp(slow.early[10]) == pytest.approx(20.0, rel=0.35)
    gap = math.log(40)
    noise, v = NOISE**2 + (EARLY_NOISE * gap) ** 2, 1 + 0.3**2 + 0.15**2
    assert found_kept.log[10] == pytest.approx(
        math.log(0.01) + (math.log(0.03) - math.log(0.4)) * v / (v + noise)
    )


def test_an_estimate_is_between_what_was_expected_and_what_was_seen():
    """The posterior of a normal mean: prior variance v, one look of variance s."""
    costs = Costs(expected)
    v, s = 1 + 0.3**2 + 0.15**2, NOISE**2
    pace = pace_of(costs, LINE, X, {3: rows(7.0, first=2)}, 7.0)
    assert pace.log[3] == pytest.approx(math.log(7) * v / (v + s))
    assert pace.doubt[3] == pytest.approx(math.sqrt(v - v * v / (v + s)))


def test_workers_that_keep_up_are_counted():
    seen = {0: rows(5, *[1] * 99), 1: rows(5, *[1] * 99)}
    pace = pace_of(Costs(expected, workers=2), LINE, X, seen, 100.0)
    assert pace.parallel == pytest.approx(2.0, rel=0.1)  # 200 epochs of a second in 100 seconds
    idle = pace_of(Costs(expected, workers=2), LINE, X, seen, 400.0)
    assert idle.parallel == pytest.approx(0.5, rel=0.1)


def test_reach_counts_early_epochs_at_their_own_price():
    pace = pace_of(Costs(expected, lambda c: 2), LINE[:2], X[:2], {}, 0.0)
    done = np.array([0, 1])
    # two early epochs of 5 s: 25 s are 2 + 15, and from epoch 1 on 1 + 20
    assert pace.reach(done, 25.0, 0.0).tolist() == [17, 21]
    assert pace.reach(done, 4.9, 0.0).tolist() == [0, 0]
    doubt = pace.doubt[0]
    pace = pace_of(Costs(expected, lambda c: 0), LINE[:2], X[:2], {}, 0.0)
    assert pace.reach(done, 10.0, 1.0)[0] == int(10 / math.exp(doubt))
    assert pace.reach(done, 10.0, -1.0)[0] == int(10 * math.exp(doubt))


def test_without_expectations_costs_are_learned_from_the_configurations():
    seen = {0: rows(1, *[1] * 20), 10: rows(20, *[20] * 20)}
    pace = pace_of(Costs(), LINE, X, seen, 0.0)
    assert pace.seconds[0] == pytest.approx(1, rel=0.2)
    assert pace.seconds[10] == pytest.approx(20, rel=0.2)
    assert (np.diff(pace.log) > 0).all()


@pytest.mark.parametrize(
    "row",
    [
        {"epoch": 1},
        {"epoch": 1, "seconds": "x"},
        {"epoch": 0, "seconds": 1.0},
        {"epoch": 1, "seconds": math.nan},
        {"epoch": 1, "seconds": 0},
    ],
)
def test_rows_that_do_not_say_what_they_took(row):
    assert seconds_of(row) is None
    assert not pace_of(Costs(), LINE, X, {0: [row]}, 0.0).timed


def test_the_final_training_has_the_machine_to_itself():
    costs = Costs(expected, workers=2, final=lambda config: (1.5, 1.0), alone=0.8)
    seen = {0: rows(5, *[1] * 30)}
    pace, beside = (pace_of(replace(costs, alone=k), LINE, X, seen, 35.0) for k in (0.8, 1.0))
    assert pace.final == pytest.approx(0.8 * beside.final)
    assert beside.final[0, 0] == pytest.approx(1.5 * pace.seconds[0])
