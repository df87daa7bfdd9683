"""A Gaussian process over (task, settings, configuration) that runs of any columns teach, and what
it says of configurations that nobody ran.

Notation: N past runs of T tasks; x = a run's point (`run_columns`), D_c(x, x') = squared distance
in column c; y = (score - location of its task) / scale of its task.

    y(t, x) = f(x) + g_t(x) + level_t + noise,      f ~ GP(0, a P),  g_t ~ GP(0, b P),
    P(x, x') = exp(-sum_c theta_c D_c(x, x'))

f is what tasks share, g_t what is a task's own, level_t is flat, so that which configurations a
task happened to try does not matter. Columns `task.*` stand in P like all others: a task that looks
like the new one says more. theta, a, b and the noise maximise the evidence times an exponential
prior on theta (columns that say nothing get 0), on at most `FIT_RUNS` runs.

Conditioning on all runs is exact up to `INDUCING` of them. Beyond, f is seen through as many
inducing points, and each task's runs stay exact given f (PITC, Snelson and Ghahramani 2007): O(N
INDUCING^2).

Where the tasks' scores lie in one range, as accuracies do, they share location and scale and the
variance of level_t is learned; else each task has its own, the scale shrunk towards that of all
tasks as far as they agree, and its level is as good as unknown. Values beyond `CLIP` robust spreads
of their task are cut: one absurd value moves nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.gaussian.gp import cholesky
from foretune.gaussian.threads import one_thread
from foretune.searchers.transfer.run_columns import OUTCOMES, SCORE, TASK, Columns

FIT_RUNS = 480
FIT_STEPS = 40
INDUCING = 512
BLOCK = 400  # runs of one task that are conditioned on
FLAT = 4.0  # variance of the level of a task that has its own location
# scores are of one range where tasks' log scales and locations (in scales) spread no more than that
ALIKE = (0.7, 1.5)
CLIP = 8.0
SPARSITY = 1.0  # rate of the exponential prior on theta
# bounds of the logarithms of the variances shared, own, noise, level
VARIANCES = [(-7.0, 2.0), (-7.0, 2.0), (-4.6, 2.0), (-7.0, 2.0)]
# where the search for the laws starts; from the first, few runs that a column explains nearly whole
# can end in the optimum where all is noise (11 of 60 tables of 45 runs), and the next is tried
STARTS = (
    {"shared": 0.5, "own": 0.1, "noise": 0.4, "level": 0.1, "theta": 0.15},
    {"shared": 1.0, "own": 0.1, "noise": 0.1, "level": 0.1, "theta": 0.5},
)
NOTHING = 0.01  # the largest theta where no column says anything


@dataclass(frozen=True)
class Laws:
    """What the evidence chose: theta by column, variances of f, g_t, noise and level_t."""

    theta: np.ndarray
    shared: float
    own: float
    noise: float
    level: float = FLAT


@dataclass(frozen=True)
class Forecast:
    """What past runs say of n candidates, in units of a task's scale: `mean` (n,), covariance of f
    and g together `cov` (n, n), `noise` variance besides, and each task's part of the mean (T, n).
    """

    mean: np.ndarray
    cov: np.ndarray
    noise: float
    parts: np.ndarray

    def at(self, rows: np.ndarray) -> "Forecast":
        """The same of the candidates `rows` alone, (m,) indices, in their order."""
        return Forecast(
            self.mean[rows], self.cov[np.ix_(rows, rows)], self.noise, self.parts[:, rows]
        )


def usable(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with a finite score, of tasks that have two different ones. Raises `BadInput` where
    a column lacks, or nothing is left.
    """
    if lacking := [c for c in (TASK, SCORE) if c not in runs.columns]:
        raise BadInput(f"the runs lack the column {', '.join(lacking)}")
    scores = pd.to_numeric(runs[SCORE], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    runs = runs[np.isfinite(scores) & runs[TASK].notna().to_numpy()]
    several = runs.groupby(TASK)[SCORE].transform("nunique").to_numpy() > 1
    if not several.any():
        raise BadInput(
            f"none of the {runs[TASK].nunique()} past task(s) has two runs of different score: "
            "there is nothing to learn from"
        )
    return runs[several].reset_index(drop=True)


def clipped(values: np.ndarray) -> np.ndarray:
    """`values` (n,) within `CLIP` robust spreads of their median. The spread is the larger one of
    the median deviation's and that of the middle 80 %, which the lowest and the highest do not
    move.
    """
    middle = float(np.median(values))
    low = np.quantile(values, 0.1, method="higher")
    high = np.quantile(values, 0.9, method="lower")
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), float(high - low) / 2.56)
    if not spread > 0:
        return values
    return np.clip(values, middle - CLIP * spread, middle + CLIP * spread)


def standardised(
    scores: np.ndarray, task: np.ndarray, tasks: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (N,) of tasks (N,) as y, and the tasks' locations and scales, (T,)."""
    values = np.asarray(scores, dtype=float).copy()
    location, spread, count = np.zeros(tasks), np.ones(tasks), np.ones(tasks)
    for t in range(tasks):
        own = task == t
        values[own] = clipped(values[own])
        location[t], count[t] = values[own].mean(), own.sum()
        spread[t] = values[own].std(ddof=1) or 1e-12
    log, error = np.log(spread), 0.5 / (count - 1)
    differ = max(float(log.var()) - float(error.mean()), 0.0)
    trust = differ / (differ + error)
    scale = np.exp(trust * log + (1 - trust) * np.average(log, weights=count))
    if one_range(location, log):
        location = np.full(tasks, np.average(location, weights=count))
        scale = np.full(tasks, np.exp(np.average(log, weights=count)))
    return (values - location[task]) / scale[task], location, scale


def one_range(location: np.ndarray, log_scale: np.ndarray) -> bool:
    """Whether tasks with these locations and log scales, (T,), have scores of one range. Spreads
    are median deviations, so that a single other task does not decide.
    """
    if len(location) < 3:
        return False
    middle = np.median(log_scale)
    apart = 1.4826 * np.median(np.abs(log_scale - middle))
    shifts = 1.4826 * np.median(np.abs(location - np.median(location))) / np.exp(middle)
    far = np.abs(location - np.median(location)) > 10 * np.exp(middle)
    wide = np.abs(log_scale - middle) > np.log(30.0)
    return bool(apart <= ALIKE[0] and shifts <= ALIKE[1] and not (far | wide).any())


class RunSurrogate:
    """The process learned from `runs` (a row a run: `task`, `score`, higher is better, and columns
    of any kind); `forecast` predicts candidates.

    Raises `BadInput` where no task has two runs of different score.
    """

    def __init__(self, runs: pd.DataFrame, *, seed: int = 0, laws: Laws | None = None):
        runs = usable(runs)
        self.task, names = pd.factorize(runs[TASK], sort=True)
        self.tasks: tuple[str, ...] = tuple(map(str, names))
        self.y, self.location, self.scale = standardised(
            runs[SCORE].to_numpy(dtype=float), self.task, len(names)
        )
        self.columns = Columns(runs, [str(c) for c in runs.columns if c not in OUTCOMES])
        self.X = self.columns.encode(runs)
        self.one_range = bool(np.ptp(self.scale) == 0 and np.ptp(self.location) == 0)
        count = np.bincount(self.task)
        means = np.bincount(self.task, self.y) / count
        # of scores between the runs of a task
        self.variance = float(((self.y - means[self.task]) ** 2).sum() / (count - 1).sum())
        rng = np.random.default_rng(seed)
        import scipy.linalg  # noqa: F401  # before its threads are limited

        with one_thread():
            self.laws = laws or self._fit(rng)
            self._condition(rng)

    # -- kernel
    # --------------------------------------------------------------------------------------------
    def stretched(self, X: np.ndarray, laws: Laws | None = None) -> np.ndarray:
        """Points of which plain squared distances are sum_c theta_c D_c, (n, F)."""
        return X * np.sqrt((laws or self.laws).theta)[self.columns.group]

    # -- learning the laws
    # --------------------------------------------------------------------------------------------
    def fit_sample(self, rng: np.random.Generator) -> np.ndarray:
        """Runs to learn the laws on: all, or at most 24 of each of some tasks."""
        if len(self.y) <= FIT_RUNS:
            return np.arange(len(self.y))
        order = rng.permutation(len(self.y))
        rank = pd.Series(self.task[order]).groupby(self.task[order]).cumcount().to_numpy()
        some = order[rank < 24]
        place = np.empty(len(self.tasks), dtype=int)
        place[rng.permutation(len(self.tasks))] = np.arange(len(self.tasks))
        return np.asarray(some[np.argsort(place[self.task[some]], kind="stable")][:FIT_RUNS])

    def _fit(self, rng: np.random.Generator) -> Laws:
        from scipy.optimize import minimize

        rows = self.fit_sample(rng)
        X, y, group = self.X[rows], self.y[rows], self.columns.group
        same = (self.task[rows][:, None] == self.task[rows][None]).astype(float)
        C, n = len(self.columns.names), len(rows)
        eye = np.eye(n)
        names = ["shared", "own", "noise", *(["level"] if self.one_range else [])]

        def cost(p: np.ndarray) -> tuple[float, np.ndarray]:
            theta, (shared, own, noise, level) = np.exp(p[:C]), (*np.exp(p[C:]), FLAT)[:4]
            P = np.exp(-squared(X * np.sqrt(theta)[group], X * np.sqrt(theta)[group]))
            K = (shared + own * same) * P + level * same + (noise + 1e-6) * eye
            L = cholesky(K)
            inverse = inverse_of(L)
            alpha = inverse @ y
            W = inverse - np.outer(alpha, alpha)
            WP = W * P
            M = WP * (shared + own * same)
            # sum_ij M_ij (x_i - x_j)^2 of every coordinate, then of every column
            spread = 2 * (M.sum(axis=1) @ X**2 - (X * (M @ X)).sum(axis=0))
            by_column = np.bincount(group, spread, minlength=C)
            by_variance = [WP.sum(), (WP * same).sum(), np.trace(W), (W * same).sum()][: len(names)]
            gradient = np.concatenate(
                [theta * (SPARSITY - 0.5 * by_column), 0.5 * np.exp(p[C:]) * by_variance]
            )
            value = 0.5 * float(y @ alpha) + float(np.log(np.diag(L)).sum())
            return value + SPARSITY * float(theta.sum()), gradient

        def sought(start: dict[str, float]) -> Any:
            return minimize(
                cost,
                np.log([*[start["theta"]] * C, *(start[name] for name in names)]),
                jac=True,
                method="L-BFGS-B",
                bounds=[(-9.0, 3.0)] * C + VARIANCES[: len(names)],
                options={"maxiter": FIT_STEPS},
            )

        best = sought(STARTS[0])
        for start in STARTS[1:]:
            if np.exp(best.x[:C]).max(initial=0.0) > NOTHING:
                break
            best = min(best, sought(start), key=lambda found: float(found.fun))
        return Laws(np.exp(best.x[:C]), *map(float, np.exp(best.x[C:])))

    # -- conditioning
    # --------------------------------------------------------------------------------------------
    def _condition(self, rng: np.random.Generator) -> None:
        """Everything of the posterior of f that does not depend on candidates."""
        laws, Z = self.laws, self.stretched(self.X)
        exact = len(self.y) <= INDUCING
        chosen = np.arange(len(self.y)) if exact else rng.choice(len(self.y), INDUCING, False)
        self._U = Z[np.sort(chosen)]
        K_uu = laws.shared * np.exp(-squared(self._U, self._U))
        self._L_u = cholesky(K_uu + 1e-6 * laws.shared * np.eye(len(self._U)))
        A = np.eye(len(self._U))
        self._pull = np.zeros((len(self.tasks), len(self._U)))
        for t, rows in enumerate(by_task(self.task, len(self.tasks), rng)):
            P = np.exp(-squared(Z[rows], Z[rows]))
            V = triangular(self._L_u, laws.shared * np.exp(-squared(self._U, Z[rows])))
            # what the inducing points leave open of f stays exact within the task
            block = (laws.shared + laws.own) * P - V.T @ V + laws.level
            block[np.diag_indices(len(rows))] += laws.noise + 1e-6
            half = triangular(cholesky(block), V.T)  # (n_t, m)
            A += half.T @ half
            self._pull[t] = half.T @ triangular(cholesky(block), self.y[rows])
        self._L_a = cholesky(A)

    def forecast(self, candidates: pd.DataFrame) -> Forecast:
        """Prior of a new task's candidates (a row each; columns may lack, others may be there)."""
        return self.forecast_at(self.columns.encode(candidates))

    def forecast_at(self, X: np.ndarray) -> Forecast:
        """`forecast` of points (n, F)."""
        laws, Z = self.laws, self.stretched(X)
        V = triangular(self._L_u, laws.shared * np.exp(-squared(self._U, Z)))  # (m, n)
        H = triangular(self._L_a, V)
        P = np.exp(-squared(Z, Z))
        parts = triangular(self._L_a, self._pull.T).T @ H
        cov = (laws.shared + laws.own) * P - V.T @ V + H.T @ H
        return Forecast(parts.sum(axis=0), cov, laws.noise, parts)


def squared(X1: np.ndarray, X2: np.ndarray) -> np.ndarray:
    """Squared distances, (n1, n2)."""
    apart = (X1**2).sum(axis=1)[:, None] + (X2**2).sum(axis=1)[None] - 2 * X1 @ X2.T
    return np.asarray(np.maximum(apart, 0.0))


def triangular(L: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L^-1 right."""
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(L, right, lower=True, check_finite=False))


def inverse_of(L: np.ndarray) -> np.ndarray:
    """(L L^T)^-1."""
    from scipy.linalg.lapack import dpotri

    half, _ = dpotri(L, lower=1)
    lower = np.tril(half)
    return np.asarray(lower + lower.T - np.diag(np.diag(lower)))


def by_task(task: np.ndarray, tasks: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The runs of each task, at most `BLOCK` of them, drawn at random."""
    order = np.argsort(task, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(task, minlength=tasks))[:-1])
    return [p if len(p) <= BLOCK else np.sort(rng.choice(p, BLOCK, False)) for p in parts]
