"""When kept results stand for those of other code."""

import numpy as np
import pytest

from foretune.pipeline.comparison import Pair, drawn, in_words, is_centred, seed_of, verdicts


def pair(shift: float, rounding: float = 0.0, figures: bool = True) -> Pair:
    kept = np.array([0.1, np.nan, 0.3])
    return Pair("t0", kept, kept + shift, rounding, (0.0, shift) if figures else None)


def test_equal_bit_for_bit_stands_and_says_so() -> None:
    (verdict,) = verdicts({"sha": [pair(0.0), pair(0.0)]}).values()
    assert verdict.stands and verdict.equal and verdict.said == "equal"
    assert not verdicts({"sha": []})["sha"].stands  # nothing made again shows nothing


def test_where_rounding_does_nothing_any_difference_is_one() -> None:
    smallest = float(np.spacing(0.3))
    (verdict,) = verdicts({"sha": [pair(0.0), pair(smallest)]}).values()
    assert not verdict.stands and verdict.said == "t0 differs by up to 5.6e-17"


def test_a_number_beyond_rounding_condemns_its_own_part_alone() -> None:
    found = verdicts({"a": [pair(0.2, 0.1)], "b": [pair(0.01, 0.1)], "c": [pair(-0.01, 0.1)]})
    assert [name for name, verdict in found.items() if verdict.stands] == ["b", "c"]
    assert found["a"].said == "t0 differs by up to 0.2, of which rounding explains 0.1"


def test_a_shift_of_the_figure_condemns_all_that_differ() -> None:
    """By hand: differences .01, .02, .03 have mean .02 and standard error .01 / sqrt(3); t(2) at
    97.5 % is 4.303, so the interval is .02 -+ .0248 and holds zero. Of .02, .021, .022 it does not.
    """
    loose = {f"{k}": [pair(k / 100, 1.0)] for k in (1, 2, 3)}
    assert all(verdict.stands and not verdict.equal for verdict in verdicts(loose).values())
    assert "+0.02, 95% from -0.0048 to +0.045, n = 3" in verdicts(loose)["1"].said
    shifted = {f"{k}": [pair(k / 1000, 1.0)] for k in (20, 21, 22)} | {"same": [pair(0.0)]}
    found = verdicts(shifted, "AP@10")
    assert [name for name, verdict in found.items() if verdict.stands] == ["same"]
    assert "mean difference of AP@10: +0.021" in found["20"].said


def test_one_unit_alone_shows_no_shift_and_none_is_taken_for_granted() -> None:
    assert not verdicts({"a": [pair(0.01, 0.1)]})["a"].stands
    assert verdicts({"a": [pair(0.01, 0.1, figures=False)]})["a"].stands
    assert is_centred(np.array([])) == (True, "n = 0, no interval")


@pytest.mark.parametrize("made", [np.array([0.1, 0.2, 0.3]), np.array([0.1, np.nan])])
def test_a_number_where_there_was_none_is_no_rounding(made: np.ndarray) -> None:
    unlike = Pair("t0", np.array([0.1, np.nan, 0.3]), made, rounding=9.0)
    assert verdicts({"a": [unlike]})["a"].said == "t0 differs in what it holds"


def test_the_fingerprint_draws_the_sample() -> None:
    units = [f"u{i}" for i in range(20)]
    first, second = drawn(units, 5, "ab" * 32), drawn(units, 5, "cd" * 32)
    assert first == drawn(units, 5, "ab" * 32) != second
    assert first == sorted(first, key=units.index) and len(set(first)) == 5
    assert drawn(units[:3], 5, "ab" * 32) == units[:3]
    assert in_words(5, 3, "folds", "00000000000000ff0") == "3 of 3 folds, drawn by 255"
    assert seed_of("00000000000000ff0") == 255
