"""Exact inference against dense algebra: posterior, evidence, Kronecker products, the nearest
positive semi-definite matrix.
"""

import numpy as np
import pytest

from foretune.gaussian.gp import (
    Exact,
    GrowingCholesky,
    KroneckerGP,
    cholesky,
    kron_matvec,
    nearest_psd,
    with_room,
)


def spd(n: int, rng: np.random.Generator) -> np.ndarray:
    A = rng.normal(size=(n, n))
    return A @ A.T / n + 0.1 * np.eye(n)


def test_posterior_and_evidence_equal_dense_formulas():
    rng = np.random.default_rng(0)
    K = spd(12, rng)
    y = rng.normal(size=8)
    oo, of, ff = K[:8, :8] + 0.1 * np.eye(8), K[:8, 8:], np.diag(K)[8:]
    gp = Exact.fit(oo, y)
    mean, variance = gp.predict(of, ff)
    np.testing.assert_allclose(mean, of.T @ np.linalg.solve(oo, y), rtol=1e-9)
    np.testing.assert_allclose(variance, ff - np.diag(of.T @ np.linalg.solve(oo, of)), rtol=1e-9)
    sign, logdet = np.linalg.slogdet(oo)
    assert sign == 1
    assert gp.log_marginal == pytest.approx(
        -0.5 * y @ np.linalg.solve(oo, y) - 0.5 * logdet - 4 * np.log(2 * np.pi)
    )


def test_kronecker_equals_dense():
    rng = np.random.default_rng(1)
    factors = [spd(n, rng) for n in (3, 4, 5)]
    dense = np.kron(np.kron(factors[0], factors[1]), factors[2])
    y = rng.normal(size=(3, 4, 5))
    np.testing.assert_allclose(kron_matvec(factors, y).ravel(), dense @ y.ravel(), rtol=1e-9)
    gp = KroneckerGP.fit(factors, y, 0.2)
    noisy = dense + 0.2 * np.eye(60)
    assert gp.log_marginal == pytest.approx(Exact.fit(noisy, y.ravel()).log_marginal)
    cross = [rng.normal(size=(2, n)) for n in (3, 4, 5)]
    wide = np.kron(np.kron(cross[0], cross[1]), cross[2])
    np.testing.assert_allclose(
        gp.mean(cross).ravel(), wide @ np.linalg.solve(noisy, y.ravel()), rtol=1e-8
    )
    prior = np.full((2, 2, 2), 1e4)
    expected = prior.ravel() - np.diag(wide @ np.linalg.solve(noisy, wide.T))
    np.testing.assert_allclose(gp.variance(cross, prior).ravel(), expected, rtol=1e-8)


def test_nearest_psd_keeps_what_is_psd_and_the_diagonal():
    rng = np.random.default_rng(2)
    good = spd(6, rng)
    np.testing.assert_allclose(nearest_psd(good), good)
    bad = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.9], [0.0, 0.9, 1.0]])
    assert np.linalg.eigvalsh(bad)[0] < -0.2
    mended = nearest_psd(bad)
    assert np.linalg.eigvalsh(mended)[0] > -1e-12
    np.testing.assert_allclose(np.diag(mended), 1.0)


def test_cholesky_adds_the_least_jitter_and_refuses_an_indefinite_matrix():
    K = np.ones((3, 3))
    L = cholesky(K)
    np.testing.assert_allclose(L @ L.T, K, atol=1e-6)
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(np.diag([1.0, -1.0]))


def test_a_growing_cholesky_is_that_of_the_whole_matrix_and_whitens_row_by_row():
    rng = np.random.default_rng(4)
    A, B = rng.normal(size=(150, 150)), rng.normal(size=(150, 3))
    K = A @ A.T + 150 * np.eye(150)
    anew, grown = GrowingCholesky(), GrowingCholesky()
    anew.condition(K)
    np.testing.assert_allclose(anew.L @ anew.L.T, K)
    V = np.zeros((0, 3))
    for n in range(150):  # past its first room twice
        low = grown.solve(K[:n, n]) if n else np.empty(0)
        grown.append(low, np.sqrt(K[n, n] - low @ low))
        V = with_room(V, n + 1)
        V[n] = grown.next_row(n, B[n], V)
    np.testing.assert_allclose(grown.L, anew.L, atol=1e-10)
    np.testing.assert_allclose(V[:150], np.linalg.solve(anew.L, B), atol=1e-10)
    np.testing.assert_allclose(grown.solve(B), V[:150], atol=1e-10)
    with pytest.raises(np.linalg.LinAlgError):
        grown.condition(-K)


def test_room_keeps_what_is_there():
    rows = np.arange(6.0).reshape(3, 2)
    assert with_room(rows, 3) is rows
    larger = with_room(rows, 4)
    assert len(larger) >= 4 and (larger[:3] == rows).all() and (larger[3:] == 0).all()
