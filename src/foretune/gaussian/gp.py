"""Pieces of exact Gaussian-process inference that several methods share; numpy only.

Notation: N observations, M predicted points; K (N, N) = covariance of the observations, noise
included; L its Cholesky factor. A Kronecker product is A (x) B, with (A (x) B)[(i, j), (k, l)] =
A[i, k] B[j, l].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def cholesky(K: np.ndarray, jitter: float = 1e-10) -> np.ndarray:
    """Lower Cholesky factor of K + c I, c the smallest of jitter * 10^k (relative to the mean
    diagonal) that works.

    Raises `numpy.linalg.LinAlgError` if even 1 % of the mean diagonal does not make K positive
    definite.
    """
    scale = float(np.mean(np.diag(K))) if len(K) else 1.0
    added = 0.0
    while True:
        try:
            return (
                np.linalg.cholesky(K + added * scale * np.eye(len(K)))
                if added
                else np.linalg.cholesky(K)
            )
        except np.linalg.LinAlgError:
            added = max(jitter, added * 10)
            if added > 0.01:
                raise


def whiten(L: np.ndarray, values: np.ndarray) -> np.ndarray:
    """L^-1 values. (numpy's general solver: importing scipy.linalg costs more than it would save at
    these sizes.)
    """
    return np.asarray(np.linalg.solve(L, values))


@dataclass(frozen=True)
class Exact:
    """A zero-mean Gaussian process given N observations: `L` (N, N) and `alpha` = L^-1 y (N,)."""

    L: np.ndarray
    alpha: np.ndarray

    @classmethod
    def fit(cls, K: np.ndarray, y: np.ndarray) -> "Exact":
        """Condition on `y` (N,) with covariance `K`, noise included."""
        L = cholesky(K)
        return cls(L, whiten(L, y))

    @property
    def log_marginal(self) -> float:
        """log p(y)."""
        return float(
            -0.5 * self.alpha @ self.alpha
            - np.log(np.diag(self.L)).sum()
            - 0.5 * len(self.L) * np.log(2 * np.pi)
        )

    def predict(self, cross: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (M,) of the latent function; `cross` (N, M) and `prior` (M,) are its
        covariance and variance.
        """
        V = whiten(self.L, cross)
        return V.T @ self.alpha, np.maximum(prior - (V**2).sum(axis=0), 0.0)


def with_room(rows: np.ndarray, n: int) -> np.ndarray:
    """`rows` if it has `n` of them, else a larger copy, zero where it had none: rows that come one
    by one are copied a few times only.
    """
    if len(rows) >= n:
        return rows
    more = max(64, n // 4) + n - len(rows)
    return np.pad(rows, [(0, more)] + [(0, 0)] * (rows.ndim - 1))


class GrowingCholesky:
    """The Cholesky factor L (n, n) of a covariance K that gains one observation at a time.

    Observation n appends the row [L^-1 k, pivot] for its covariance k (n,) with those before it,
    O(n^2) instead of O(n^3) anew; V = L^-1 B for any right-hand sides B (n, m) then gains the row
    `next_row`, O(n m).
    """

    def __init__(self) -> None:
        self._rows = np.zeros((64, 64))
        self.n = 0

    @property
    def L(self) -> np.ndarray:
        """The factor, (n, n)."""
        return self._rows[: self.n, : self.n]

    def condition(self, K: np.ndarray) -> None:
        """Start over from the covariance `K` (n, n) of n observations, noise included. Raises
        LinAlgError where it is not positive definite.
        """
        self.n = len(K)
        size = self.n + max(64, self.n // 4)
        self._rows = np.zeros((size, size))
        self._rows[: self.n, : self.n] = np.linalg.cholesky(K)

    def append(self, low: np.ndarray, pivot: float) -> None:
        """Add an observation: `low` = L^-1 k (n,), `pivot` = the root of what is left of its
        variance, noise included.
        """
        if self.n == len(self._rows):
            self._rows = np.pad(self._rows, (0, max(64, self.n // 2)))
        self._rows[self.n, : self.n], self._rows[self.n, self.n] = low, pivot
        self.n += 1

    def solve(self, right: np.ndarray) -> np.ndarray:
        """L^-1 right, for `right` (n,) or (n, m)."""
        # later than numpy, and not needed by those who only import this module
        from scipy.linalg import solve_triangular

        return np.asarray(solve_triangular(self.L, right, lower=True, check_finite=False))

    def next_row(self, r: int, b: np.ndarray | float, V: np.ndarray) -> np.ndarray:
        """Row `r` of V = L^-1 B from B's row `b` (m,) and V's rows before it, (m,)."""
        row = self._rows[r]
        return np.asarray((b - row[:r] @ V[:r]) / row[r])


def nearest_psd(K: np.ndarray) -> np.ndarray:
    """The symmetric matrix with K's negative eigenvalues set to 0: nearest in Frobenius norm
    (Higham 1988).

    The diagonal is then scaled back to K's own, which keeps it positive semi-definite, so that
    variances do not change.
    """
    symmetric = (K + K.T) / 2
    values, vectors = np.linalg.eigh(symmetric)
    if values[0] >= 0:
        return symmetric
    clipped = (vectors * np.maximum(values, 0)) @ vectors.T
    have, want = np.diag(clipped), np.diag(symmetric)
    ratio = np.sqrt(np.where(have > 0, want / np.where(have > 0, have, 1.0), 0.0))
    return clipped * ratio[:, None] * ratio[None]


def kron_matvec(factors: Sequence[np.ndarray], values: np.ndarray) -> np.ndarray:
    """(A1 (x) A2 (x) ...) values, for a tensor `values` of shape (n1, n2, ...); returns that of
    shape (m1, m2, ...).
    """
    out = values
    for axis, A in enumerate(factors):
        out = np.moveaxis(np.tensordot(A, out, axes=(1, axis)), 0, axis)
    return out


@dataclass(frozen=True)
class KroneckerGP:
    """Exact inference on a full grid: covariance K1 (x) K2 (x) ... plus noise I (Saatci 2011,
    chapter 5).

    `values` and `vectors` are the factors' eigendecompositions; `projected` is the data in the
    eigenbasis.
    """

    values: tuple[np.ndarray, ...]
    vectors: tuple[np.ndarray, ...]
    noise: float
    projected: np.ndarray

    @classmethod
    def fit(cls, factors: Sequence[np.ndarray], y: np.ndarray, noise: float) -> "KroneckerGP":
        """Condition on the tensor `y` (n1, n2, ...), every cell observed with variance `noise`."""
        pairs = [np.linalg.eigh((K + K.T) / 2) for K in factors]
        values = tuple(np.maximum(v, 0.0) for v, _ in pairs)
        vectors = tuple(q for _, q in pairs)
        return cls(values, vectors, noise, kron_matvec([q.T for q in vectors], y))

    @property
    def spectrum(self) -> np.ndarray:
        """Eigenvalues of the covariance of the observations, as a tensor of y's shape."""
        total = np.ones(())
        for v in self.values:
            total = np.multiply.outer(total, v)
        return np.asarray(total + self.noise)

    @property
    def weights(self) -> np.ndarray:
        """(K + noise I)^-1 y, of y's shape."""
        return kron_matvec(self.vectors, self.projected / self.spectrum)

    @property
    def log_marginal(self) -> float:
        """log p(y)."""
        spectrum = self.spectrum
        quadratic = float((self.projected**2 / spectrum).sum())
        return -0.5 * (
            quadratic + float(np.log(spectrum).sum()) + spectrum.size * np.log(2 * np.pi)
        )

    def mean(self, cross: Sequence[np.ndarray]) -> np.ndarray:
        """Posterior mean on a grid of new points; `cross[k]` (m_k, n_k) is the k-th kernel between
        new and old points.
        """
        return kron_matvec(cross, self.weights)

    def variance(self, cross: Sequence[np.ndarray], prior: np.ndarray) -> np.ndarray:
        """Posterior variance (m1, m2, ...) on that grid; `prior` is the prior variance there."""
        squares = [(c @ q) ** 2 for c, q in zip(cross, self.vectors, strict=True)]
        return np.maximum(prior - kron_matvec(squares, 1.0 / self.spectrum), 0.0)
