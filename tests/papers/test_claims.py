"""The page of claims: that it is what the reports say, and how a figure becomes a verdict."""

import numpy as np
import pandas as pd
import pytest

from papers import claims
from papers.claims import Gap, Words, averaged, family, share, turned, verdict

SURE = Gap(0.1, 0.05, 0.15, 0.001, 12, 0.01)


@pytest.mark.slow
def test_the_page_is_what_the_reports_say():
    assert claims.PAGE.read_text(encoding="utf-8") == claims.page(claims.ROOT / "data/reports"), (
        "stale: python -m papers.claims"
    )


@pytest.mark.parametrize(
    ("gap", "aim", "said"),
    [
        (SURE, 0.1, "**reached**"),
        (SURE, 0.25, "in sign, not in size (.25)"),
        (Gap(0.1, -0.01, 0.21, 0.001, 12, 0.01), 0.0, "not shown"),  # the interval holds 0
        (Gap(0.1, 0.05, 0.15, 0.01, 12, 0.08), 0.0, "not shown"),  # one of many tests
        (Gap(-0.1, -0.15, -0.05, 0.001, 12, 0.01), 0.0, "**the opposite**"),
    ],
)
def test_a_claim_is_reached_where_interval_test_and_size_say_so(gap, aim, said):
    assert verdict(gap, aim) == said


def test_a_gap_is_by_how_much_the_first_is_above_the_second():
    rng = np.random.default_rng(0)
    first = pd.Series(rng.random(12), index=list("abcdefghijkl"))
    found = Gap.of(first + 0.5, first[::-1])  # by name, whatever the order
    assert found.mean == pytest.approx(0.5) and found.units == 12 and found.p < 0.001
    with pytest.raises(ValueError, match="not of the same units"):
        Gap.of(first, first[:5])
    row = {"difference": -0.2, "low": -0.3, "high": -0.1, "p": 0.01}
    of_regret = turned(pd.Series(row | {"higher": 1, "equal": 2, "lower": 9}))
    assert (of_regret.mean, of_regret.low, of_regret.high) == (0.2, 0.1, 0.3)
    assert of_regret.units == 12 and str(SURE) == "+.100 [+.050, +.150], p .001 (Holm .010)"


def test_holm_counts_the_comparisons_of_a_family_alone():
    found = family({"a": Gap(1, 0, 2, 0.01, 5), "b": Gap(1, 0, 2, 0.04, 5), "words": "x"})
    assert (found["a"].p_holm, found["b"].p_holm, found["words"]) == (0.02, 0.04, "x")


def test_tasks_of_one_source_count_once():
    values = pd.Series({"one": 1.0, "two": 3.0, "three": 8.0})
    assert averaged(values, {"one": "s", "two": "s"}).to_dict() == {"s": 2.0, "three": 8.0}


def test_shares_are_in_per_cent_and_may_be_more_than_all():
    table = pd.DataFrame({"k": [5, 10], "share": [0.4, np.inf], "from": 0.2, "to": np.inf})
    assert share(table, k=5) == "40 % [20 %, over 100 %]"
    assert share(table, k=10).startswith("over 100 %")


def test_a_figure_that_is_not_computed_is_refused():
    words = Words(gap=SURE)
    assert words["gap?.2"] == "in sign, not in size (.20)" and words["gap?"] == "**reached**"
    with pytest.raises(KeyError, match="names the figure 'gpa'"):
        words["gpa"]
