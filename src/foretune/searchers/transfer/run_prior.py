"""A new task's curves under what past runs of any settings say, and what its own observations make
of it.

Notation: pool of n candidates, epochs e of E; mu (n,), S (n, n), nu = forecast and noise of
`run_surrogate`; h(e), l(e) = spread and level of curves at the share e / E of their epochs, 1 and 0
at the end; Q (E, E) correlation of epochs; C (n, n) = configuration kernel of the study's own
space; R (n, n) = correlation of what the task departs from its forecast by (`run_residual`).

The task shows y = A + B (l(e) + g(c, e)) with unknown location A and scale B:

| hypothesis | mean of g  | covariance of g at (c, e) and (c', e')          |
|------------|------------|-------------------------------------------------|
| history    | h(e) mu(c) | h h' (S + open C + nu R) Q + w (level)          |
| loose      | h(e) mu(c) | h h' (2 S + open C + v R) Q + w                 |
| none       | 0          | h h' v R Q + w                                  |

R is fitted under each hypothesis on the study's own values. It starts at what each configuration has
for itself where the candidates are a pool, and at what neighbours share in an open space, which has
neighbours without end.

`open` is for hyperparameters that no past run had. "none" is a search without history: what follows
from the space and the observations. Each hypothesis comes twice, with location and scale as on past
tasks and with an unknown unit. All are weighed by the evidence of the study's own observations, so
that a past that is of no use costs the first suggestions only.
"""

from dataclasses import dataclass

import numpy as np

from foretune.gaussian.gp import cholesky
from foretune.searchers.transfer.curve_prior import Belief
from foretune.searchers.transfer.past_curves import epoch_correlation, length_scale, radial
from foretune.searchers.transfer.run_residual import Departure, fitted, succession
from foretune.searchers.transfer.run_surrogate import Forecast, triangular

HYPOTHESES = (("history", 0.7), ("loose", 0.27), ("none", 0.03))
OTHER_UNIT = 0.02  # prior weight of a unit that is not the past's
PERSISTENT, LENGTH = 0.6, 1.5  # epochs' correlation, as in `curve_prior.Amplitudes`
MEASUREMENT = 0.02  # share of the noise that two epochs of a run do not have in common
# share of a departure that is a configuration's own, where its fit starts: in a pool, in an open space
ALONE = {"history": (1.0, 0.1), "loose": (0.3, 0.1), "none": (0.3, 0.1)}
PER_OPEN_COLUMN, MOST_OPEN = 0.08, 0.6  # share of v that hyperparameters new to the past leave open


@dataclass(frozen=True)
class Unit:
    """Where a task's scores lie: normal prior of A given B, grid of B with log prior weights."""

    location: float
    deviation: float
    scales: np.ndarray
    log_weight: np.ndarray


def past_unit(location: np.ndarray, scale: np.ndarray, level: float) -> Unit:
    """The unit of past tasks with these locations and scales, (T,); `level` is the variance of
    tasks' levels in scales.
    """
    center, log = float(location.mean()), np.log(scale)
    steps = np.linspace(-3.0, 3.0, 13)
    deviation = float(np.sqrt(location.var() + level * float(np.exp(2 * log.mean()))))
    scales = np.exp(log.mean() + max(float(log.std()), 0.15) * steps)
    log_weight = -0.5 * steps**2
    return Unit(center, deviation, scales, log_weight - np.log(np.exp(log_weight).sum()))


def other_unit(y: np.ndarray) -> Unit:
    """An unknown unit, as wide as the values `y` themselves allow."""
    size = float(np.abs(y).max()) or 1.0
    spread = float(np.ptp(y)) or size
    scales = np.geomspace(max(1e-3 * spread, 1e-12 * size), 3 * max(spread, size), 25)
    return Unit(float(np.median(y)), size, scales, np.full(25, -np.log(25.0)))


@dataclass(frozen=True)
class CurveShape:
    """How curves go over the shares of their epochs: `level` and `spread` at `shares` (k,), in
    units of the spread at the end; `wander` is the variance of what tasks' levels deviate from
    that.
    """

    shares: np.ndarray
    level: np.ndarray
    spread: np.ndarray
    wander: float

    def at(self, epochs: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Level and spread at `epochs` (from 1) of `last`."""
        share = np.asarray(epochs, dtype=float) / last
        return np.interp(share, self.shares, self.level), np.interp(share, self.shares, self.spread)


# without curves: the mean of HyperRec's and LCBench's, but hardly believed
UNKNOWN_SHAPE = CurveShape(
    np.array([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]),
    np.array([-1.02, -0.64, -0.28, -0.07, -0.02, 0.0]),
    np.array([0.82, 0.86, 0.95, 0.99, 1.0, 1.0]),
    0.3,
)


def curve_shape(tables: "list[np.ndarray]") -> CurveShape:
    """The mean shape of curves (n, E), NaN where unknown, of past tasks; `UNKNOWN_SHAPE` where no
    task has three curves to the end.
    """
    shares = np.linspace(0.05, 1.0, 20)
    levels, spreads = [], []
    for Y in tables:
        whole = Y[np.isfinite(Y).all(axis=1)]
        unit = float(whole[:, -1].std()) if len(whole) > 2 else 0.0
        if not unit > 0 or Y.shape[1] < 3:
            continue
        own = np.arange(1, Y.shape[1] + 1) / Y.shape[1]
        level = (np.median(whole, axis=0) - np.median(whole[:, -1])) / unit
        levels.append(np.interp(shares, own, level))
        spreads.append(np.interp(shares, own, whole.std(axis=0) / unit))
    if not levels:
        return UNKNOWN_SHAPE
    level, spread = np.median(levels, axis=0), np.median(spreads, axis=0)
    wander = float(np.median(np.abs(np.array(levels) - level) ** 2)) + 0.01
    return CurveShape(shares, level, np.maximum(spread, 0.1), wander)


class RunPrior:
    """The prior of one study's pool; `believe` conditions it on observations, with the signature of
    `CurvePrior.believe`.

    `X` (n, d) are the pool's points in the study's own space, `new` how many of its hyperparameters
    no past run had, `variance` (v) that of scores between a task's runs, and `open_space` says whether
    the pool is a sample of a space.
    """

    def __init__(
        self,
        forecast: Forecast,
        unit: Unit,
        X: np.ndarray,
        last: int,
        *,
        shape: CurveShape = UNKNOWN_SHAPE,
        variance: float = 1.0,
        new: int = 0,
        open_space: bool = False,
    ):
        self.forecast, self.unit, self.last, self.shape = forecast, unit, last, shape
        self.variance = variance
        self.X = X
        length = length_scale(X)
        left_open = min(MOST_OPEN, PER_OPEN_COLUMN * new) * variance
        unknown = left_open * radial(X, X, length) if left_open else 0.0
        self._length, self._open = np.full(X.shape[1], length), open_space
        zero = np.zeros(len(X))
        self._parts = {
            "history": (forecast.mean, forecast.cov + unknown, forecast.noise),
            "loose": (forecast.mean, 2 * forecast.cov + unknown, variance),
            "none": (zero, np.zeros_like(forecast.cov), variance),
        }

    def chance(self, c: np.ndarray, improved: np.ndarray) -> np.ndarray:
        """How far what is expected of each candidate comes true after the candidates `c` (N,) were
        tried, some of which `improved` on the best so far, (n,).
        """
        return succession(self.X, self.X[c], improved, float(self._length[0]))

    def believe(self, c: np.ndarray, e: np.ndarray, y: np.ndarray, ladder: np.ndarray) -> Belief:
        """Condition on values `y` (N,) at candidates `c`, epochs `e` (from 0); predict the pool at
        the epochs `ladder` (from 0).
        """
        n, G, N = len(self.forecast.mean), len(ladder), len(y)
        level_o, h_o = self.shape.at(e + 1, self.last)
        level_g, h_g = self.shape.at(ladder + 1, self.last)
        Q_oo = epoch_correlation(e + 1.0, e + 1.0, PERSISTENT, LENGTH)
        Q_og = epoch_correlation(e + 1.0, ladder + 1.0, PERSISTENT, LENGTH)
        # what a task's level deviates from the shape fades towards the end
        fade_o, fade_g = 1 - (e + 1) / self.last, 1 - (ladder + 1) / self.last
        W_oo = self.shape.wander * fade_o[:, None] * fade_o * Q_oo
        W_og = self.shape.wander * fade_o[:, None] * fade_g * Q_og
        units = [(self.unit, 1 - OTHER_UNIT), (other_unit(y), OTHER_UNIT)] if N else []
        units = units or [(self.unit, 1.0)]
        last = latest(c, e)
        weights, means, stds, names = [], [], [], []
        for name, prior in HYPOTHESES:
            mu, S, nu = self._parts[name]
            at, centre = level_o + h_o * mu[c], level_g + h_g * mu[:, None]  # (N,), (n, G)
            var = h_g**2 * (np.diag(S) + nu)[:, None] + self.shape.wander * fade_g**2
            log = np.log(prior)
            if N:
                H = h_o[:, None] * h_o * Q_oo
                K = H * S[np.ix_(c, c)] + W_oo
                K[np.diag_indices(N)] += MEASUREMENT * nu + 1e-6 * self.variance
                rows = np.ix_(last, last)
                some = Observed(K[rows], nu * H[rows], at[last], y[last], units)
                start = Departure(self._length, ALONE[name][self._open])
                departure = fitted(self.X[c[last]], start, some.evidence)
                log += departure.log_prior(start)
                near = departure.near(self.X[c], self.X)
                near += departure.alone * (c[:, None] == np.arange(n))
                L = cholesky(K + nu * near[:, c] * H)
                cross = (S[c] + nu * near)[:, :, None] * (h_o[:, None] * h_g * Q_og)[:, None]
                V = triangular(L, (cross + W_og[:, None]).reshape(N, n * G))
                var = np.maximum(var - (V**2).sum(axis=0).reshape(n, G), 1e-10 * self.variance)
            for unit, share in units:
                if N:
                    A, B, evidence, open_, rest = placed(unit, L, at, y)
                    means.append(A + B * (centre + (V.T @ rest).reshape(n, G)))
                    # what stays open of A moves most what the observations say least of
                    alone = 1 - (V.T @ triangular(L, np.ones(N))).reshape(n, G)
                    stds.append(B * np.sqrt(var + open_ * alone**2))
                else:
                    A, B, evidence = (
                        unit.location,
                        float(unit.scales @ np.exp(unit.log_weight)),
                        0.0,
                    )
                    means.append(A + B * centre)
                    stds.append(np.sqrt(B**2 * var + unit.deviation**2))
                weights.append(log + np.log(share) + evidence)
                names.append(name)
        weight = np.exp(np.array(weights) - max(weights))
        weight /= weight.sum()
        belief = Belief(weight, np.array(means), np.array(stds), np.empty(0), tuple(names))
        best = int(belief.expected[:, -1].argmax())
        trust = 1 - belief.trust["none"]
        lean = trust * np.maximum(self.forecast.parts[:, best], 0.0)
        return Belief(weight, belief.mean, belief.std, lean, belief.names)


@dataclass(frozen=True)
class Observed:
    """Values `y` (N,) of mean `mean`: their covariance is `known` + `apart` * the correlation of
    departures, all (N, N), in one of `units` (with their prior weights).
    """

    known: np.ndarray
    apart: np.ndarray
    mean: np.ndarray
    y: np.ndarray
    units: list[tuple[Unit, float]]

    def evidence(self, correlation: np.ndarray) -> float:
        """The logarithm of their density."""
        white = Whitened.of(cholesky(self.known + self.apart * correlation), self.mean, self.y)
        each = [np.log(w) + np.logaddexp.reduce(white.by_scale(u)[0]) for u, w in self.units]
        return float(np.logaddexp.reduce(each))


@dataclass(frozen=True)
class Whitened:
    """L^-1 of ones, of a mean and of values, each (N,), and log |L|."""

    ones: np.ndarray
    mean: np.ndarray
    y: np.ndarray
    log_determinant: float

    @classmethod
    def of(cls, L: np.ndarray, mean: np.ndarray, y: np.ndarray) -> "Whitened":
        """What L whitens."""
        ones, mean, y = triangular(L, np.stack([np.ones(len(y)), mean, y], axis=1)).T
        return cls(ones, mean, y, float(np.log(np.diag(L)).sum()))

    def by_scale(self, unit: Unit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each scale B of a unit the log evidence of y = A + B g with A integrated out, and, in
        scales, the variance of A that is left and what y says of A, all (scales,).
        """
        B, o = unit.scales, self.ones
        r = (self.y - unit.location * o) / B[:, None] - self.mean  # (scales, N)
        s = (unit.deviation / B) ** 2
        shrink = s / (1 + s * (o @ o))
        along = r @ o
        log = (
            unit.log_weight
            - 0.5 * ((r**2).sum(axis=1) - shrink * along**2)
            - self.log_determinant
            - 0.5 * np.log1p(s * (o @ o))
            - len(o) * np.log(B)
        )
        return log, shrink, along


def latest(c: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Of observations (N,) the indices of each configuration's last one."""
    order = np.lexsort((e, c))
    return np.sort(order[np.append(c[order][1:] != c[order][:-1], True)]) if len(c) else order


def placed(
    unit: Unit, L: np.ndarray, mean: np.ndarray, y: np.ndarray
) -> tuple[float, float, float, float, np.ndarray]:
    """Expected location A and scale B of y = A + B g, g ~ N(mean, L L^T), the log evidence with
    both integrated out, the variance of A / B that is left, and the whitened rest of y, (N,).

    Given B, A is conjugate: a rank-one change of L.
    """
    log, shrink, along = Whitened.of(L, mean, y).by_scale(unit)
    top = float(log.max())
    w = np.exp(log - top)
    evidence = top + float(np.log(w.sum()))
    w /= w.sum()
    location = float(w @ (unit.location + unit.scales * shrink * along))
    scale = float(np.exp(w @ np.log(unit.scales)))
    rest = triangular(L, (y - location) / scale - mean)
    return location, scale, evidence, float(w @ shrink), rest
