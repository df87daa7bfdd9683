"""Closed forms against numerical integration and high-precision values."""

import numpy as np
import pytest
from scipy import integrate, stats

from foretune.gaussian.acquisition import (
    budget_incumbent,
    expected_improvement,
    log_expected_improvement,
    max_trial_ucb,
    multi_fidelity_ei,
    pick,
    probability_of_improvement,
    ucb,
)

NAN = np.nan


@pytest.mark.parametrize(
    ("mean", "std", "best"), [(0.0, 1.0, 0.0), (0.3, 0.2, 0.5), (-2.0, 0.7, 0.1), (5.0, 0.1, 1.0)]
)
def test_expected_improvement_is_the_integral(mean, std, best):
    want, _ = integrate.quad(
        lambda f: (f - best) * stats.norm.pdf(f, mean, std), best, max(best, mean) + 12 * std
    )
    assert expected_improvement(np.array([mean]), np.array([std]), best)[0] == pytest.approx(
        want, rel=1e-7, abs=1e-14
    )
    assert np.exp(
        log_expected_improvement(np.array([mean]), np.array([std]), best)[0]
    ) == pytest.approx(want, rel=1e-7)


def test_expected_improvement_at_the_incumbent_is_sigma_over_root_two_pi():
    assert expected_improvement(np.array(1.0), np.array(2.0), 1.0) == pytest.approx(
        2 / np.sqrt(2 * np.pi)
    )


def test_certain_predictions():
    mean = np.array([0.5, 1.5])
    np.testing.assert_array_equal(expected_improvement(mean, np.zeros(2), 1.0), [0.0, 0.5])
    np.testing.assert_array_equal(
        log_expected_improvement(mean, np.zeros(2), 1.0), [-np.inf, np.log(0.5)]
    )
    np.testing.assert_array_equal(probability_of_improvement(mean, np.zeros(2), 1.0), [0.0, 1.0])


def test_the_logarithm_keeps_an_order_where_the_value_underflows():
    z = -np.array([0.5, 0.999, 1.001, 5, 20, 50, 9_999, 10_001, 1e6])
    value = log_expected_improvement(z, np.ones(9), 0.0)
    assert np.isfinite(value).all() and (np.diff(value) < 0).all()
    assert value[3] == pytest.approx(np.log(5.346165533833469e-08), rel=1e-9)  # phi(5) - 5 Phi(-5)
    assert expected_improvement(z, np.ones(9), 0.0)[5] == 0.0
    assert value[6] == pytest.approx(value[7], rel=1e-3)  # the two branches meet


def test_probability_of_improvement():
    assert probability_of_improvement(np.array(1.0), np.array(1.0), 0.0) == pytest.approx(
        0.8413447460685429
    )


def test_the_incumbent_of_a_budget_is_equation_11():
    curves = np.array([[0.2, 0.6, NAN], [0.3, NAN, NAN], [NAN, NAN, NAN]])
    np.testing.assert_allclose(budget_incumbent(curves, np.array([1, 2, 3])), [0.3, 0.6, 0.6])
    assert budget_incumbent(np.full((2, 3), NAN), np.array([1]))[0] == -np.inf


def test_multi_fidelity_ei_compares_within_the_budget():
    curves = np.array([[0.2, 0.6], [0.3, NAN]])
    value = multi_fidelity_ei(
        np.array([0.35, 0.35]), np.array([0.01, 0.01]), np.array([1, 2]), curves
    )
    assert value[0] == pytest.approx(np.log(0.05), abs=1e-3)  # 0.35 beats 0.3 at epoch 1
    assert value[1] < -300  # and cannot beat 0.6 at epoch 2
    assert (
        multi_fidelity_ei(np.ones(2), np.ones(2), np.array([1, 1]), np.full((2, 2), NAN)) == 0
    ).all()


def test_upper_confidence_bounds():
    mean, std = (
        np.array([[0.1, 0.5, 0.4], [0.2, 0.3, 0.3]]),
        np.array([[1.0, 0.0, 0.8], [0.0, 0.0, 2.0]]),
    )
    np.testing.assert_allclose(ucb(mean, std, 2.0)[0], [2.1, 0.5, 2.0])
    np.testing.assert_allclose(max_trial_ucb(mean, std, np.zeros(2, int), eta=0.25), [0.6, 0.8])


def test_ties_are_broken_at_random_and_nan_loses():
    rng = np.random.default_rng(0)
    drawn = [pick(np.array([1.0, NAN, 1.0, 0.5]), rng) for _ in range(200)]
    assert set(drawn) == {0, 2} and 60 < drawn.count(0) < 140
    assert pick(np.array([-np.inf, np.inf, 0.0]), rng) == 1
    assert {pick(np.full(3, -np.inf), rng) for _ in range(50)} == {0, 1, 2}
