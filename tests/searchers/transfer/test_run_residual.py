"""How far a departure from the forecast reaches."""

import numpy as np
import pytest

from foretune.searchers.transfer.run_residual import Departure, fitted, improvements, succession

RNG = np.random.default_rng(0)
START = Departure(np.full(3, 0.4), 1.0)


def density(y: np.ndarray, noise: float = 1e-3):
    """The log density of values of variance 1, given their correlation."""

    def evidence(correlation: np.ndarray) -> float:
        K = correlation + noise * np.eye(len(y))
        return float(-0.5 * y @ np.linalg.solve(K, y) - 0.5 * np.linalg.slogdet(K)[1])

    return evidence


def test_what_each_configuration_has_for_itself_stays_so():
    found = fitted(RNG.uniform(size=(25, 3)), START, density(RNG.normal(size=25)))
    assert found.alone == 1.0 and (found.lengths == START.lengths).all()


def test_what_neighbours_share_is_seen_in_few_of_them():
    """Five near-duplicates with one value: the sixth promises nothing more."""
    X = 0.5 + 0.02 * RNG.normal(size=(6, 3))
    found = fitted(X[:5], START, density(np.full(5, 0.8)))
    assert found.alone < 0.1
    C = found.near(X, X) + found.alone * np.eye(6) + 1e-3 * np.eye(6)
    left = C[5, 5] - C[5, :5] @ np.linalg.solve(C[:5, :5], C[:5, 5])
    assert left < 0.1


def test_a_coordinate_that_changes_nothing_gets_a_longer_length():
    X = RNG.uniform(size=(40, 3))
    found = fitted(X, Departure(np.full(3, 0.4), 0.1), density(np.sin(6 * X[:, 0])))
    assert found.lengths[0] < min(found.lengths[1:])


def test_without_values_nothing_moves():
    found = fitted(np.empty((0, 3)), START, lambda correlation: 0.0)
    assert found.alone == START.alone and found.lengths == pytest.approx(START.lengths)


def test_a_promise_is_worth_less_where_others_were_not_kept():
    here, far = np.full((1, 3), 0.5), np.full((1, 3), 50.0)
    tried = np.repeat(here, 4, axis=0)

    def chance(at: np.ndarray, improved: list[bool]) -> float:
        return float(succession(at, tried, np.array(improved), 1.0)[0])

    assert chance(here, [False] * 4) == pytest.approx(1 / 6)
    assert chance(here, [True] * 4) == pytest.approx(5 / 6)
    assert chance(far, [False] * 4) == pytest.approx(1 / 2)


def test_improvements_are_on_all_before():
    assert improvements(np.array([0.3, 0.2, 0.4, 0.4, 0.5])).tolist() == [0, 0, 1, 0, 1]
    assert improvements(np.array([])).tolist() == []
