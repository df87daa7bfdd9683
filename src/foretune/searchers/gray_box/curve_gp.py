"""A Gaussian process over learning curves: what is known of every configuration at every epoch,
from a few epochs of some.

Notation: configuration i with encoding x_i (d,), epochs on a geometric grid g_1 = 1 < ... < g_H = E
with u_h = log g_h / log E in [0, 1], n observations. The target is the running best of a curve,
which is what regret is measured on.

    y_i(h) = f(h) + f_i(h) + r_i(h) + noise
    cov    = s_S^2 S[h, h'] + s_P^2 C(x_i, x_j) P[h, h']
             + [i = j] s_R^2 R[h, h'] + [i = j, h = h'] s_N^2

f is the trend that all curves share, f_i what the hyperparameters explain (C: Matern 5/2, a length
scale per column) and r_i what only the curve itself tells; freeze-thaw's decomposition (Swersky et
al. 2014) in one exact process. S, P, R are `share + (1 - share) exp(-|u - u'| / length)`.

The hyperparameters theta = log(s_S, s_P, s_R, s_N, lengths) maximise the marginal likelihood times
a log-normal prior; its centre was set on half of the LCBench and TaskSet tasks. The posterior on
the whole grid is kept as V = L^-1 K_*, (n, m H), to which an observation appends a row: O(n m H).
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve

from foretune.gaussian.gp import GrowingCholesky, with_room

ROOT5 = np.sqrt(5.0)
JITTER = 1e-8


def levels(epochs: int, ratio: float = 1.25) -> np.ndarray:
    """Epochs of the grid: 1, then each at least one more and about `ratio` times the one before, up
    to `epochs`.
    """
    grid = [1]
    while grid[-1] < epochs:
        grid.append(min(epochs, max(grid[-1] + 1, round(grid[-1] * ratio))))
    return np.array(grid)


def spread_out(x: np.ndarray, finite: bool = True) -> np.ndarray:
    """Columns of a pool as their ranks in (0, 1), ties averaged: a hyperparameter sampled on a
    scale that its space does not declare comes out even.
    """
    if not finite or len(x) < 2:
        return x
    below = np.stack(
        [
            np.searchsorted(np.sort(c), c) + np.searchsorted(np.sort(c), c, side="right")
            for c in x.T
        ],
        axis=1,
    )
    return below / (2 * len(x))


@dataclass(frozen=True)
class Prior:
    """Shapes of the epoch kernels, and centre and spread of the log-normal prior of theta."""

    length_shared: float = 1.5
    length_explained: float = 1.5
    length_own: float = 1.5
    share_shared: float = 0.3
    share_explained: float = 0.7
    share_own: float = 0.5
    amplitudes: tuple[float, float, float, float] = (0.25, 0.7, 0.4, 0.012)  # s_S, s_P, s_R, s_N
    amplitude_spread: float = 0.7
    length: float = 0.6  # of a column, times the root of the number of columns
    length_spread: float = 0.8

    def shapes(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """S, P, R, each (H, H)."""
        distance = np.abs(u[:, None] - u[None])

        def shape(length: float, share: float) -> np.ndarray:
            return share + (1 - share) * np.exp(-distance / length)

        return (
            shape(self.length_shared, self.share_shared),
            shape(self.length_explained, self.share_explained),
            shape(self.length_own, self.share_own),
        )

    def centre(self, d: int) -> np.ndarray:
        """Prior centre of theta, (4 + d,)."""
        return np.log(
            np.concatenate([self.amplitudes, np.full(d, self.length * np.sqrt(max(d, 1)))])
        )

    def spread(self, d: int) -> np.ndarray:
        """Prior standard deviations of theta, (4 + d,)."""
        return np.concatenate([np.full(4, self.amplitude_spread), np.full(d, self.length_spread)])


def matern(x: np.ndarray, y: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matern 5/2 correlation of rows of x (k, d) and y (l, d), and the scaled distance, both (k,
    l).
    """
    a, b = x / lengths, y / lengths
    squared = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T, 0.0)
    r = np.sqrt(squared)
    return (1 + ROOT5 * r + 5 / 3 * squared) * np.exp(-ROOT5 * r), r


@dataclass(frozen=True)
class Observations:
    """Configuration `ids` (n,), grid `levels` (n,) and standard values `y` (n,)."""

    ids: np.ndarray
    levels: np.ndarray
    y: np.ndarray


def negative_log_posterior(
    theta: np.ndarray,
    x: np.ndarray,
    data: Observations,
    shapes: tuple[np.ndarray, ...],
    prior: Prior,
) -> tuple[float, np.ndarray]:
    """-log p(y | theta) - log p(theta) without constants, and its gradient (4 + d,); a huge value
    where the matrix is not positive definite.
    """
    d = x.shape[1]
    variance, lengths = np.exp(2 * theta[:4]), np.exp(theta[4:])
    unique, where = np.unique(data.ids, return_inverse=True)
    xu, h, n = x[unique], data.levels, len(data.y)
    correlation, r = matern(xu, xu, lengths)
    explained_shape = shapes[1][np.ix_(h, h)]
    shared = variance[0] * shapes[0][np.ix_(h, h)]
    explained = variance[1] * correlation[np.ix_(where, where)] * explained_shape
    own = variance[2] * (where[:, None] == where[None]) * shapes[2][np.ix_(h, h)]
    matrix = shared + explained + own
    matrix[np.diag_indices(n)] += variance[3] + JITTER
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    inverse = cho_solve((factor, True), np.eye(n), check_finite=False)
    alpha = inverse @ data.y
    value = 0.5 * data.y @ alpha + np.log(np.diag(factor)).sum()
    by_matrix = inverse - np.outer(alpha, alpha)  # twice the derivative
    gradient = np.empty(4 + d)
    gradient[:3] = [(by_matrix * part).sum() for part in (shared, explained, own)]
    gradient[3] = variance[3] * np.trace(by_matrix)
    member = np.zeros((n, len(unique)))
    member[np.arange(n), where] = 1.0
    by_pair = (
        member.T
        @ (by_matrix * explained_shape * variance[1])
        @ member
        * (5 / 3 * (1 + ROOT5 * r) * np.exp(-ROOT5 * r))
    )
    for j in range(d):
        gradient[4 + j] = (
            0.5 * (by_pair * ((xu[:, None, j] - xu[None, :, j]) / lengths[j]) ** 2).sum()
        )
    standard = (theta - prior.centre(d)) / prior.spread(d)
    return value + 0.5 * standard @ standard, gradient + standard / prior.spread(d)


def fit(
    x: np.ndarray,
    data: Observations,
    u: np.ndarray,
    prior: Prior,
    *,
    most: int = 300,
    steps: int = 30,
    seed: int = 0,
) -> np.ndarray:
    """theta at the maximum of the posterior, from the prior's centre; on a random `most` of the
    observations where there are more.
    """
    from scipy.optimize import minimize  # a fifth of a second, which the first decisions do without

    if len(data.y) > most:
        k = np.random.default_rng(seed).choice(len(data.y), most, replace=False)
        data = Observations(data.ids[k], data.levels[k], data.y[k])
    d = x.shape[1]
    optimum = minimize(
        negative_log_posterior,
        prior.centre(d),
        args=(x, data, prior.shapes(u), prior),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-6, 3)] * 4 + [(-3, 4)] * d,
        options={"maxiter": steps},
    )
    return np.asarray(optimum.x)


class CurvePosterior:
    """The posterior of m configurations at all H grid epochs, one observation after another.

    `mean(y)` gives (m, H) for the standard values of the observations in the order they were added;
    `variance` (m, H) is of the latent curve, without noise.
    """

    def __init__(self, x: np.ndarray, u: np.ndarray, theta: np.ndarray, prior: Prior):
        self.x, self.theta, self.prior = x, theta, prior
        self.shapes = prior.shapes(u)
        self.amplitude = np.exp(2 * theta[:4])
        self.lengths = np.exp(theta[4:])
        self.m, self.h = len(x), len(u)
        self.cholesky = GrowingCholesky()
        self.v = np.empty((64, self.m * self.h))
        self.points: list[tuple[int, int]] = []
        own = sum(a * np.diag(s) for a, s in zip(self.amplitude[:3], self.shapes, strict=True))
        self.variance = np.tile(np.asarray(own), (self.m, 1))

    @property
    def n(self) -> int:
        """Observations taken in."""
        return self.cholesky.n

    def covariance(self, i: int, level: int) -> np.ndarray:
        """Prior covariance of one point with the whole grid, (m, H)."""
        c = matern(self.x[i : i + 1], self.x, self.lengths)[0][0]
        out = (
            self.amplitude[0] * self.shapes[0][level][None]
            + self.amplitude[1] * c[:, None] * self.shapes[1][level][None]
        )
        out[i] += self.amplitude[2] * self.shapes[2][level]
        return out

    def add(self, i: int, level: int) -> None:
        """Take in that configuration i was observed at a grid level; the value comes with
        `mean`.
        """
        n = self.n
        self.v = with_room(self.v, n + 1)
        # L^-1 k(observed, new): the new point lies on the grid
        low = self.v[:n, i * self.h + level].copy()
        pivot = np.sqrt(max(self.variance[i, level], 0.0) + self.amplitude[3] + JITTER)
        self.cholesky.append(low, pivot)
        self.v[n] = self.cholesky.next_row(n, self.covariance(i, level).ravel(), self.v)
        self.variance -= (self.v[n] ** 2).reshape(self.m, self.h)
        self.points.append((i, level))

    def add_all(self, points: list[tuple[int, int]]) -> None:
        """Take in several points; at the start by one factorisation, later one by one."""
        if self.n or len(points) < 2:
            for i, level in points:
                self.add(i, level)
            return
        n = len(points)
        ids, level = np.array(points).T
        prior = np.stack([self.covariance(i, h).ravel() for i, h in points])  # (n, m H)
        columns = ids * self.h + level
        self.cholesky.condition(prior[:, columns] + (self.amplitude[3] + JITTER) * np.eye(n))
        self.v = np.empty((n + max(64, n // 4), self.m * self.h))
        self.v[:n] = self.cholesky.solve(prior)
        self.variance = self.variance - (self.v[:n] ** 2).sum(0).reshape(self.m, self.h)
        self.points = list(points)

    def mean(self, y: np.ndarray) -> np.ndarray:
        """Posterior mean (m, H) given the observations' standard values (n,)."""
        if not self.n:
            return np.zeros((self.m, self.h))
        return (self.cholesky.solve(y) @ self.v[: self.n]).reshape(self.m, self.h)

    def deviation(self, pending: list[tuple[int, int]] | None = None) -> np.ndarray:
        """Posterior standard deviation (m, H), with the points `pending` (configuration, level)
        taken as observed at their mean.
        """
        variance = self.variance
        if pending:
            columns = [i * self.h + level for i, level in pending]
            v = self.v[: self.n]
            shared = (
                np.stack([self.covariance(i, level).ravel() for i, level in pending])
                - v[:, columns].T @ v
            )
            among = shared[:, columns] + (self.amplitude[3] + JITTER) * np.eye(len(columns))
            variance = variance - (shared * np.linalg.solve(among, shared)).sum(0).reshape(
                self.m, self.h
            )
        return np.sqrt(np.maximum(variance, 1e-10))
