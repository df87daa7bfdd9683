"""Ranking metrics against numbers computed by hand."""

from itertools import permutations

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.average_precision import (
    ap_at_k,
    hits,
    ordered,
    precision_at_k,
    regret_after,
    similarity,
    tie_averaged_ap_at_k,
    top_regret,
)

VALUES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])  # the best two are 0 and 1


def scores(*order: int) -> np.ndarray:
    out = np.empty(len(order))
    out[list(order)] = np.arange(len(order), 0, -1)
    return out


def test_average_precision_by_hand() -> None:
    assert ap_at_k(scores(1, 0, 2, 3, 4), VALUES, 2) == 1.0  # any order of the best two
    # hit at 1: (1/1 + 0) / 2
    assert ap_at_k(scores(0, 2, 1, 3, 4), VALUES, 2) == pytest.approx(0.5)
    # hit at 2: (0 + 1/2) / 2
    assert ap_at_k(scores(2, 0, 1, 3, 4), VALUES, 2) == pytest.approx(0.25)
    assert ap_at_k(scores(3, 2, 0, 4, 1), VALUES, 2) == 0.0
    # K = 3, best are 0, 1, 2; predicted 0, 4, 2: (1/1 + 0 + 2/3) / 3
    assert ap_at_k(scores(0, 4, 2, 1, 3), VALUES, 3) == pytest.approx(5 / 9)


def test_average_precision_of_a_random_order_over_all_orders() -> None:
    """K = 1 of n: 1/n; K = n: 1, whatever the order."""
    rng = np.random.default_rng(0)
    assert np.mean([ap_at_k(rng.random(5), VALUES, 1) for _ in range(4000)]) == pytest.approx(
        0.2, abs=0.02
    )
    assert ap_at_k(rng.random(5), VALUES, 5) == 1.0


def test_precision_counts_hits() -> None:
    assert precision_at_k(scores(2, 0, 1, 3, 4), VALUES, 2) == 0.5
    assert precision_at_k(scores(0, 4, 2, 1, 3), VALUES, 3) == pytest.approx(2 / 3)
    assert hits(scores(2, 0, 1, 3, 4), VALUES, 2).tolist() == [False, True]


def test_regret_along_the_ranking() -> None:
    assert regret_after(scores(3, 4, 1, 2, 0), VALUES).tolist() == pytest.approx(
        [0.75, 0.75, 0.25, 0.25, 0]
    )
    assert top_regret(scores(1, 0, 2, 3, 4), VALUES) == pytest.approx(0.25)
    assert top_regret(np.arange(3.0), np.ones(3)) == 0.0


def test_equal_values_and_missing_ones() -> None:
    assert ordered(np.array([1.0, 2.0, 2.0, np.nan])).tolist() == [1, 2, 0, 3]
    values = np.array([np.nan, 0.4, 0.4, 0.1])
    assert precision_at_k(scores(0, 1, 2, 3), values, 1) == 0.0  # what diverged is never the best
    assert ap_at_k(scores(1, 2, 0, 3), values, 2) == 1.0
    assert regret_after(scores(0, 2, 1, 3), values).tolist() == [1, 0, 0, 0]


def test_task_similarity_is_ap_between_lists() -> None:
    values = np.array([[5.0, 4, 3, 2, 1], [4, 5, 1, 2, 3], [1, 2, 3, 4, 5]])
    found = similarity(values, 2)
    assert found.diagonal().tolist() == [1, 1, 1]
    assert found[0, 1] == found[1, 0] == 1.0
    assert found[0, 2] == 0.0
    # no more than there are
    assert similarity(values[:, :1], 10).tolist() == np.ones((3, 3)).tolist()


@pytest.mark.parametrize("k", [0, 6])
def test_k_must_fit(k: int) -> None:
    with pytest.raises(BadInput, match="must be from 1 to the number of configurations, 5"):
        ap_at_k(VALUES, VALUES, k)


def test_shapes_must_agree() -> None:
    with pytest.raises(BadInput, match="vectors of one length"):
        ap_at_k(VALUES[:3], VALUES)


def test_ties_at_the_last_place_are_averaged_over() -> None:
    """Every way to break them, judged by AP@K itself; without ties it is AP@K."""
    rng = np.random.default_rng(0)
    for values, k in (
        (np.array([0.9, 0.5, 0.5, 0.5, 0.1, 0.7]), 4),
        (np.array([0.5, 0.5, 0.5, 0.2]), 2),
        (np.array([0.9, 0.5, np.nan, 0.5, 0.1]), 2),
        (np.arange(6.0), 3),
    ):
        predicted = rng.random(len(values))
        low = np.where(np.isnan(values), -1.0, values)
        # each order of the pool decides among equal values in its own way
        broken = [
            ap_at_k(predicted, low + 1e-6 * np.array(p), k) for p in permutations(range(len(low)))
        ]
        assert tie_averaged_ap_at_k(predicted, values, k) == pytest.approx(np.mean(broken))
    with pytest.raises(BadInput, match="k=7"):
        tie_averaged_ap_at_k(np.arange(6.0), np.arange(6.0), 7)
