"""Location and scale integrated out in closed form, against sums over both."""

import numpy as np
import pytest

from foretune.searchers.transfer.placement import (
    LARGEST_SCALE,
    LEAST_SCALE,
    SCALES,
    Anywhere,
    Around,
    Whitened,
)

N = 4
rng = np.random.default_rng(0)
ROOT = 0.2 * rng.normal(size=(N, N))
K = ROOT @ ROOT.T + 0.02 * np.eye(N)
MEANS = np.stack([np.linspace(0, 1, N), np.linspace(0.5, -0.2, N)])  # (P, N)
Y = 0.5 + 0.1 * MEANS[0] + 0.01 * rng.normal(size=N)


def log_density(A: np.ndarray, B: float, m: np.ndarray) -> np.ndarray:
    """Log density of Y for locations A (k,), up to (2 pi)^(-N / 2)."""
    r = (Y - A[:, None]) / B - m
    quadratic = np.einsum("ki,ij,kj->k", r, np.linalg.inv(K), r)
    return -0.5 * quadratic - 0.5 * np.linalg.slogdet(K)[1] - N * np.log(B)


def test_around_equals_sums_over_location_and_scale():
    around = Around(0.6, 0.2, np.log(0.15), 0.3)
    placed = around.place(Whitened.of(np.linalg.cholesky(K), MEANS, Y))
    A = np.linspace(-0.8, 2.0, 4001)
    prior_A = np.exp(-0.5 * ((A - 0.6) / 0.2) ** 2)
    prior_A /= prior_A.sum()
    B = np.exp(np.log(0.15) + 0.3 * SCALES)
    prior_B = np.exp(-0.5 * SCALES**2)
    prior_B /= prior_B.sum()
    for k, m in enumerate(MEANS):
        p = np.stack([np.exp(log_density(A, b, m)) * prior_A for b in B]) * prior_B[:, None]
        assert placed.evidence[k] == pytest.approx(np.log(p.sum()), abs=1e-4)
        assert placed.location[k] == pytest.approx((p.sum(axis=0) @ A) / p.sum(), abs=1e-4)
        assert np.log(placed.scale[k]) == pytest.approx((p.sum(axis=1) @ np.log(B)) / p.sum())


def test_anywhere_equals_sums_over_its_ranges():
    largest = 2.0
    placed = Anywhere(largest, 1.0).place(Whitened.of(np.linalg.cholesky(K), MEANS, Y))
    A = np.linspace(-2 * largest, 2 * largest, 8001)
    log_B = np.linspace(np.log(LEAST_SCALE), np.log(LARGEST_SCALE), 801) + np.log(largest)
    for k, m in enumerate(MEANS):
        p = np.stack([np.exp(log_density(A, b, m)) for b in np.exp(log_B)])
        assert placed.evidence[k] == pytest.approx(np.log(p.mean()), abs=0.02)
        assert np.log(placed.scale[k]) == pytest.approx((p.sum(axis=1) @ log_B) / p.sum(), abs=0.02)


@pytest.mark.parametrize("values", [[0.1], [0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]])
def test_anywhere_holds_values_that_say_nothing_of_the_scale(values):
    y = np.array(values)
    L = np.linalg.cholesky(K[: len(y), : len(y)])
    placed = Anywhere(1.0, 0.3).place(Whitened.of(L, MEANS[:, : len(y)], y))
    assert np.isfinite(placed.evidence).all()
    assert (placed.scale >= 0.999 * LEAST_SCALE).all()
    np.testing.assert_allclose(placed.location, y.mean(), atol=1.0)
    if len(y) == 1:
        np.testing.assert_allclose(placed.scale, 0.3)
