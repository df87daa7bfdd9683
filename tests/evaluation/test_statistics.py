"""Ranks, tests and groups against published and hand-made figures."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from foretune.errors import BadInput
from foretune.evaluation.statistics import (
    Comparison,
    against,
    average_ranks,
    blocks,
    cliques,
    diagram,
    friedman,
    holm,
    mean_interval,
    share_needed,
    wilcoxon_holm,
)


@pytest.fixture
def demsar() -> pd.DataFrame:
    """Table 6 of Demsar (2006): AUC of C4.5 variants on 14 data sets, as 1 - AUC so that lower is
    better.
    """
    rows = [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975),
        (0.957, 0.978, 0.946, 0.970),
    ]
    return 1 - pd.DataFrame(rows, columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"])


def test_ranks_and_friedman_of_the_published_example(demsar: pd.DataFrame):
    ranks = average_ranks(demsar)
    assert ranks.round(3).to_dict() == {
        "C4.5+m+cf": 1.964,
        "C4.5+m": 2.0,
        "C4.5+cf": 2.893,
        "C4.5": 3.143,
    }
    statistic, p = friedman(demsar)
    want = stats.friedmanchisquare(*demsar.to_numpy().T)
    assert statistic == pytest.approx(want.statistic) and p == pytest.approx(want.pvalue)
    uncorrected = 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 5**2 / 4)
    assert (
        uncorrected == pytest.approx(9.28, abs=0.01) and statistic > uncorrected
    )  # the paper does not correct for ties


def test_equal_methods_do_not_differ():
    table = pd.DataFrame(np.ones((5, 3)), columns=list("abc"))
    assert friedman(table) == (0.0, 1.0)
    assert (wilcoxon_holm(table)["p"] == 1).all()
    with pytest.raises(BadInput, match="3 methods"):
        friedman(table[["a", "b"]])


def test_holm_steps_down():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])


def test_pairs_that_clearly_differ_are_found():
    rng = np.random.default_rng(0)
    base = rng.random(20)
    noise = rng.normal(0, 0.01, 20)
    table = pd.DataFrame({"a": base, "b": base + noise, "c": base + 0.5 + rng.random(20) / 10})
    pairs = wilcoxon_holm(table).set_index(["a", "b"])["significant"]
    assert pairs.to_dict() == {("a", "b"): False, ("a", "c"): True, ("b", "c"): True}
    comparison = Comparison.of(table)
    assert comparison.p < 1e-3 and comparison.groups == [
        sorted(comparison.ranks.index[:2], key=list(comparison.ranks.index).index)
    ]
    svg = ET.fromstring(diagram(comparison, "after 200 epochs"))
    texts = [t.text for t in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert (
        any("after 200 epochs" in (t or "") for t in texts)
        and sum("c 3.00" in (t or "") or "3.00 c" in (t or "") for t in texts) == 1
    )
    thick = [
        e for e in svg.iter("{http://www.w3.org/2000/svg}line") if e.get("stroke-width") == "4"
    ]
    assert len(thick) == 1


def test_groups_are_the_longest_runs_without_a_difference():
    pairs = pd.DataFrame(
        [
            ("a", "b", False),
            ("a", "c", False),
            ("a", "d", True),
            ("b", "c", False),
            ("b", "d", False),
            ("c", "d", False),
        ],
        columns=["a", "b", "significant"],
    )
    assert cliques(list("abcd"), pairs) == [["a", "b", "c"], ["b", "c", "d"]]


def steps(method: str, task: str, seed: int, regrets: list[float]) -> list[dict[str, object]]:
    return [
        {
            "method": method,
            "task": task,
            "seed": seed,
            "step": k + 1,
            "spent": 10 * (k + 1),
            "normalized_regret": r,
        }
        for k, r in enumerate(regrets)
    ]


def test_blocks_are_means_over_repetitions_at_a_budget():
    frame = pd.DataFrame(
        steps("m", "t", 0, [0.4, 0.2])
        + steps("m", "t", 1, [0.6, 0.4])
        + steps("k", "t", 0, [0.1, 0.1])
        + steps("m", "u", 0, [1, 0])
    )
    with pytest.raises(BadInput, match="k has no run of u"):
        blocks(frame, 10)
    table = blocks(frame[frame["task"] == "t"], 19)
    assert table.loc["t"].to_dict() == pytest.approx({"k": 0.1, "m": 0.5})
    assert blocks(frame[frame["task"] == "t"], 5).loc["t", "m"] == 1.0


def test_an_interval_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(2000, 40)) - 1
    inside = [low < 0 < high for low, high in map(mean_interval, samples.tolist())]
    assert 0.92 < np.mean(inside) < 0.97
    low, high = mean_interval([1.0, 2.0, 3.0])  # t of 2 degrees: 4.3027
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert np.isnan(mean_interval([1.0])).all()


def test_methods_against_one_of_them(demsar: pd.DataFrame):
    found = against(demsar, "C4.5")
    assert list(found.index) == ["C4.5+m", "C4.5+cf", "C4.5+m+cf"]
    pair = wilcoxon_holm(demsar[["C4.5", "C4.5+m"]]).iloc[0]
    row = found.loc["C4.5+m"]
    assert row["difference"] == pytest.approx(-pair["mean_difference"])
    assert row["p"] == pytest.approx(pair["p"]) and row["low"] < row["difference"] < row["high"]
    assert row[["higher", "equal", "lower"]].tolist() == [2, 2, 10]
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p"].tolist()).tolist())
    assert against(demsar.assign(same=demsar["C4.5"]), "C4.5").loc["same", "p"] == 1


def test_the_share_of_a_budget_that_is_needed():
    """Falls at 2 of 8 steps on each unit alike: no doubt; at 2 and 6 by halves: somewhere between;
    a method that never gets there: never.
    """
    step = np.arange(1, 9)
    theirs = np.ones((10, 8))
    assert share_needed(np.tile(np.where(step < 2, 2.0, 1.0), (10, 1)), theirs) == (0.25,) * 3
    late = np.array([np.where(step < (2 if u % 2 else 6), 2.0, 1.0) for u in range(10)])
    share, low, high = share_needed(late, theirs)
    assert share == 0.75 and low <= 0.75 and high == 0.75
    assert share_needed(theirs + 1, theirs) == (np.inf,) * 3
    noisy = np.random.default_rng(0).normal(size=(10, 1)) + 1 - 0.2 * step
    share, low, high = share_needed(noisy, np.zeros((10, 8)))
    assert low < share < high
