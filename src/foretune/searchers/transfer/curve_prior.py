"""A Gaussian-process prior over (configuration x epoch) learned from past curves, and its exact
posterior on a new task.

Notation: D (T, n, E) deviations of past tasks from their mean m (n, E), all of one location and
scale; S = D^T D / (T - 1); h(e) = spread over tasks, v(e) = spread over configurations; C (n, n)
configuration kernel; Q (E, E) correlation of epochs.

A new task shows y = A + B (g(c, e) + noise), with unknown location A and scale B and g drawn from
one of four hypotheses:

| hypothesis | mean       | covariance of (c, e) and (c', e')                                      |
|------------|------------|------------------------------------------------------------------------|
| history    | m(c, e)    | a^2 S + r^2 h h' (rho C + (1 - rho) 1[c = c']) Q + v v' U Q            |
| loose      | m(c, e)    | the same with 3 r                                                      |
| flat       | mean_c m   | v v' (C + 1[c = c']) Q / 2: a curve's shape, nothing about who is good |
| opposite   | mirrored m | as loose: mirrored at mean_c m(c, e), who was good is bad              |

The first two are not one Gaussian but T of them, centred at m + G D[t] with a^2 S shrunk to (1 -
G^2) a^2 S: the same mean and covariance, but the new task may be close to one past task, which a
portfolio lives on and a Gaussian has no room for.

U is what stays open about configurations that no past task knows. a, r, rho, Q and the noise
maximise the probability of each past task given the others, and so do the hypotheses' weights. The
components are weighed by the evidence of the new task's own observations, which guards against a misleading history. Sample
covariance as a prior: empirical Bayes (as in arXiv 2602.12082); the rest is exact.

A and B (`placement`): in the unit that the values are recognised to be in (`units`) they have a
normal and a log-normal prior from the past tasks, or flat ones over a wide range, whichever the
evidence prefers; predictions take their posterior means. So a study in per cent, thousands or told
as a loss is the same study as one in its past's unit, and one whose level no past task has is
placed by its shape. Flat priors for every study cost regret where the past's level is right
(LCBench after one training: .049 instead of .040).
"""

from dataclasses import dataclass, replace

import numpy as np

from foretune.gaussian.acquisition import expected_improvement
from foretune.gaussian.gp import cholesky, whiten
from foretune.searchers.transfer.hypothesis_weights import fitted_weights
from foretune.searchers.transfer.past_curves import PastCurves, epoch_correlation
from foretune.searchers.transfer.placement import Anywhere, Around, Placed, Whitened
from foretune.searchers.transfer.units import Unit, Units

# of fewer past tasks nobody can tell how far tasks differ: that far at least, in units of v(e); 0.56
# and 1.08 is what pairs of tasks of HyperRec and LCBench differ by at the last epoch (median)
FEW, APART = 3, 0.8
# prior probability that a task lies elsewhere than past tasks do in its unit; with 1/3, a past
# whose curves are dealt out at random cost twice the regret on a synthetic table
ANYWHERE = 0.1


@dataclass(frozen=True)
class Amplitudes:
    """Standard deviations and shares of the prior's parts (see the module's table)."""

    past: float = 0.6  # a
    residual: float = 0.7  # r, in units of h(e)
    kernel: float = 0.4  # rho
    persistent: float = 0.5  # share of a curve's residual that lasts over epochs
    length: float = 1.5  # of the share that wanders, in log epochs
    noise: float = 0.1  # in units of h(e)
    offset: float = 0.1  # a shift common to all cells, beyond A


@dataclass(frozen=True)
class Hypothesis:
    """One way in which the new task may relate to the past: prior weight, whether it uses the
    past's ranking, factor of r.
    """

    name: str
    weight: float
    ranked: bool
    factor: float = 1.0
    mirrored: bool = False


HYPOTHESES = (
    Hypothesis("history", 0.70, True),
    Hypothesis("loose", 0.24, True, 3.0),
    Hypothesis("flat", 0.04, False),
    Hypothesis("opposite", 0.02, False, 3.0, mirrored=True),
)
LIMITS = {
    "past": (0.01, 3.0),
    "residual": (0.02, 3.0),
    "kernel": (0.01, 0.99),
    "persistent": (0.02, 0.98),
    "length": (0.1, 20.0),
    "noise": (0.01, 1.0),
    "offset": (0.005, 2.0),
}


@dataclass(frozen=True)
class Belief:
    """The posterior over a grid: P components' weights (P,), means and standard deviations (P,
    pool, G), in y's own unit.

    `lean` (T,) is how much each past task carries of the prediction. Observations above
    `ceiling` are absurd.
    """

    weight: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    lean: np.ndarray
    names: tuple[str, ...]
    ceiling: float = np.inf

    @property
    def trust(self) -> dict[str, float]:
        """Posterior weight by hypothesis."""
        return {
            name: float(self.weight[[n == name for n in self.names]].sum())
            for name in dict.fromkeys(self.names)
        }

    @property
    def expected(self) -> np.ndarray:
        """Mean over components, (pool, G)."""
        return np.asarray(np.tensordot(self.weight, self.mean, axes=1))

    def only(self, name: str) -> "Belief":
        """What one hypothesis alone says."""
        weight = np.where([n == name for n in self.names], self.weight, 0.0)
        if not weight.sum() > 0:
            weight = np.array([float(n == name) for n in self.names])
        return replace(self, weight=weight / weight.sum())

    def gain(self, best: float) -> np.ndarray:
        """Expected improvement over `best`, (pool, G)."""
        heavy = self.weight > 1e-4
        gain = expected_improvement(self.mean[heavy], self.std[heavy], best)
        return np.asarray(np.tensordot(self.weight[heavy], gain, axes=1))


@dataclass(frozen=True)
class OnLadder:
    """The prior at the cells of the pool's grid: deviations (T, cells), means, component centres,
    variances, epoch correlation (E, G).
    """

    D: np.ndarray
    mean: np.ndarray
    centres: np.ndarray
    flat: np.ndarray
    S: np.ndarray
    R: np.ndarray
    F: np.ndarray
    Q: np.ndarray


@dataclass(frozen=True)
class Part:
    """One hypothesis at N observations and on the pool's cells: factor `L` of the observations'
    covariance, what it whitens, cross = L^-1 (their covariance with the cells) (N, cells), the
    cells' variance and the components' centres (P, cells).
    """

    L: np.ndarray
    white: Whitened | None
    cross: np.ndarray
    var: np.ndarray
    centre: np.ndarray


class CurvePrior:
    """The prior learned from `past`; `fit` chooses the amplitudes and `fitted_weights` how probable
    the hypotheses are, where nothing of that is given; `believe` conditions on a new task's observations.
    """

    def __init__(
        self,
        past: PastCurves,
        amplitudes: Amplitudes | None = None,
        hypotheses: tuple[Hypothesis, ...] | None = None,
        particle: float = 0.8,
    ):
        self.particle = particle  # G
        self._ladder: tuple[bytes, OnLadder] | None = None
        self.past = past
        self.mean = past.mean
        self.D = past.Z - self.mean
        self.T, self.n, self.E = past.Z.shape
        self.by_task = np.sqrt((self.D**2).mean(axis=(0, 1))) + 1e-3  # h
        self.by_config = np.sqrt(past.Z.std(axis=1).mean(axis=0) ** 2) + 1e-3  # v
        if self.T < FEW:  # one past task alone would be believed to the letter
            self.by_task = np.maximum(self.by_task, APART * self.by_config)
        self.flat_mean = self.mean.mean(axis=0)
        log_scale = np.log(past.scale)
        usual, log_spread = float(log_scale.mean()), max(float(log_scale.std()), 0.3)
        spread = max(float(past.location.std()), float(np.exp(usual)))
        self.around = Around(float(past.location.mean()), spread, usual, log_spread)
        self.units = Units.of(past)
        self.amplitudes = amplitudes or self.fit()
        self.hypotheses = hypotheses or HYPOTHESES
        if amplitudes is None and hypotheses is None:
            weights = fitted_weights(self, HYPOTHESES)
            self.hypotheses = tuple(
                replace(h, weight=float(w)) for h, w in zip(HYPOTHESES, weights, strict=True)
            )

    # -- covariance
    # ----------------------------------------------------------------------------------------------
    def residual(
        self, c1: np.ndarray, e1: np.ndarray, c2: np.ndarray, e2: np.ndarray, a: Amplitudes
    ) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of the residual, and of the flat hypothesis, between cells (c1, e1) and (c2,
        e2); e counts from 0.
        """
        C = self.past.similarity[np.ix_(c1, c2)]
        same = c1[:, None] == c2[None]
        Q = epoch_correlation(e1 + 1.0, e2 + 1.0, a.persistent, a.length)
        tasks = self.by_task[e1][:, None] * self.by_task[e2][None]
        configs = self.by_config[e1][:, None] * self.by_config[e2][None]
        R = a.residual**2 * tasks * (a.kernel * C + (1 - a.kernel) * same) * Q
        return R + configs * self.past.unexplained[np.ix_(c1, c2)] * Q, configs * 0.5 * (
            C + same
        ) * Q

    # -- learning the amplitudes
    # -----------------------------------------------------------------------------------------
    def fit(self, tasks: int = 12, configs: int = 24, epochs: int = 4) -> Amplitudes:
        """Coordinate search for the amplitudes under which each of some past tasks is most probable
        given the others.
        """
        start = Amplitudes()
        if self.T < 3:
            return start
        rng = np.random.default_rng(0)
        some = rng.choice(self.n, min(self.n, configs), replace=False)
        ladder = np.unique(np.geomspace(1, self.E, epochs).round().astype(int)) - 1
        c, e = np.repeat(some, len(ladder)), np.tile(ladder, len(some))
        cells = self.past.Z[:, c, e]  # (T, N)
        held_out = []
        for t in rng.permutation(self.T)[:tasks]:
            others = np.delete(cells, t, axis=0)
            D = others - others.mean(axis=0)
            held_out.append((D.T @ D / max(1, len(D) - 1), cells[t] - others.mean(axis=0)))

        def cost(a: Amplitudes) -> float:
            base = (
                self.residual(c, e, c, e, a)[0]
                + a.offset**2
                + np.diag((a.noise * self.by_task[e]) ** 2 + 1e-9)
            )
            total = 0.0
            for S, y in held_out:
                L = cholesky(a.past**2 * S + base)
                total += 0.5 * float((whiten(L, y) ** 2).sum()) + float(np.log(np.diag(L)).sum())
            return total / len(held_out)

        best, at = cost(start), start
        step = 1.8
        for _ in range(3):
            for name, (low, high) in LIMITS.items():
                for factor in (step, 1 / step):
                    while low <= (value := scaled(name, getattr(at, name), factor)) <= high:
                        trial = replace(at, **{name: value})
                        if (tried := cost(trial)) >= best - 0.01:
                            break
                        best, at = tried, trial
            step **= 0.6
        return at

    # -- a new task
    # ----------------------------------------------------------------------------------------------
    def believe(self, c: np.ndarray, e: np.ndarray, y: np.ndarray, ladder: np.ndarray) -> Belief:
        """Condition on values `y` (N,) at configurations `c`, epochs `e` (from 0); predict the pool
        at the epochs `ladder`.
        """
        c, e, y, unit = self.units.believed(self.raw(c, e), c, e, y)
        parts = self.parts(c, e, y, ladder)
        a, G, pool = self.amplitudes, self.particle, self.past.pool
        log_weight, means, stds, leans = [], [], [], []
        for h, part, placed in zip(self.hypotheses, parts, self.placed(parts, y), strict=True):
            A, B, evidence, rest = placed
            P, V = len(part.centre), part.cross
            means.append(A[:, None] + B[:, None] * (part.centre + rest.T @ V))
            stds.append(B[:, None] * np.sqrt(np.maximum(part.var - (V**2).sum(axis=0), 1e-12)))
            log_weight.append(np.log(h.weight / P) + evidence)
            w = np.zeros((self.T, P))
            if h.ranked:
                if len(y):
                    D_at = self.D[:, c, e] * (a.past / np.sqrt(max(1, self.T - 1)))
                    share = (1 - G**2) * a.past / np.sqrt(max(1, self.T - 1))
                    w = share * D_at @ np.linalg.solve(part.L.T, rest)
                w = 1.0 / self.T + w - w.mean(axis=0)
                if G:
                    w += G * (np.eye(self.T) - 1.0 / self.T)
            leans.append(w)
        joined = np.concatenate(log_weight)
        weight = np.exp(joined - joined.max())
        weight /= weight.sum()
        lean = np.maximum(np.concatenate(leans, axis=1) @ weight, 0.0)
        names = tuple(h.name for h, w in zip(self.hypotheses, log_weight, strict=True) for _ in w)
        shape = (len(weight), pool, len(ladder))
        unknown, unit = unit is None, unit or Unit()
        return Belief(
            weight,
            unit.to_study(np.concatenate(means).reshape(shape)),
            unit.factor * np.concatenate(stds).reshape(shape),
            lean,
            names,
            np.inf if unknown else unit.to_study(self.units.highest),
        )

    def placed(self, parts: "list[Part]", y: np.ndarray) -> "list[Placed]":
        """Location and scale of observations `y` (N,) in the past's unit, for each hypothesis.

        Around where past tasks lie, or anywhere: whichever is more probable.
        """
        white = [part.white for part in parts if part.white is not None]
        if not white:
            return [self.around.unseen(len(part.centre)) for part in parts]
        usual_scale = float(np.exp(self.around.log_scale))
        anywhere = Anywhere(max(float(np.abs(y).max()), self.units.range), usual_scale)
        near, far = [self.around.place(w) for w in white], [anywhere.place(w) for w in white]
        odds = np.log(ANYWHERE / (1 - ANYWHERE)) + self.log_evidence(far) - self.log_evidence(near)
        return far if odds > 0 else near

    def log_evidence(self, placed: "list[Placed]") -> float:
        """Of all components together."""
        terms = np.concatenate(
            [
                np.log(h.weight / len(p.evidence)) + p.evidence
                for h, p in zip(self.hypotheses, placed, strict=True)
            ]
        )
        return float(np.logaddexp.reduce(terms))

    def raw(self, c: np.ndarray, e: np.ndarray) -> np.ndarray:
        """Past values (T, N) at configurations `c` and epochs `e`, in their own unit."""
        return self.past.Z[:, c, e] * self.past.scale[:, None] + self.past.location[:, None]

    def parts(
        self, c: np.ndarray, e: np.ndarray, y: np.ndarray, ladder: np.ndarray
    ) -> "list[Part]":
        """Of each hypothesis what does not depend on where the observations lie."""
        a, G, N = self.amplitudes, self.particle, len(y)
        prior = self.on_ladder(ladder)
        D_at = self.D[:, c, e] * (a.past / np.sqrt(max(1, self.T - 1)))  # (T, N)
        noise, shift = np.diag((a.noise * self.by_task[e]) ** 2 + 1e-9), a.offset**2
        S_oo, S_of = D_at.T @ D_at, D_at.T @ prior.D * (a.past / np.sqrt(max(1, self.T - 1)))
        (R_oo, F_oo), (R_of, F_of) = (
            self.residual(c, e, c, e, a),
            self.on_grid(c, e, ladder, prior.Q),
        )
        parts = []
        for h in self.hypotheses:
            if h.ranked:
                # (P, N)
                at_mean = self.mean[c, e] + G * self.D[:, c, e] if G else self.mean[None, c, e]
                left, r = 1 - G**2, h.factor**2
                K, cross, var = (
                    left * S_oo + r * R_oo,
                    left * S_of + r * R_of,
                    left * prior.S + r * prior.R,
                )
                centre = prior.centres if G else prior.mean[None]  # (P, cells)
            elif h.mirrored:
                at_mean, centre = (
                    2 * self.flat_mean[None, e] - self.mean[None, c, e],
                    (2 * prior.flat - prior.mean)[None],
                )
                r = h.factor**2
                K, cross, var = S_oo + r * R_oo, S_of + r * R_of, prior.S + r * prior.R
            else:
                at_mean, K, cross, var = self.flat_mean[None, e], F_oo, F_of, prior.F
                centre = prior.flat[None]
            if N:
                L = cholesky(K + shift + noise)
                V, white = whiten(L, cross + shift), Whitened.of(L, at_mean, y)
            else:
                L, V, white = np.empty((0, 0)), cross, None
            parts.append(Part(L, white, V, var + shift, centre))
        return parts

    def on_ladder(self, ladder: np.ndarray) -> "OnLadder":
        """What of the prior at the pool's cells does not depend on the observations; kept for the
        ladder asked for last.
        """
        key = ladder.tobytes()
        if self._ladder is None or self._ladder[0] != key:
            a, pool = self.amplitudes, self.past.pool
            D = self.D[:, :pool][:, :, ladder].reshape(self.T, -1)
            mean = self.mean[:pool, ladder].ravel()
            open_ = np.diag(self.past.unexplained)[:pool, None]
            F = np.broadcast_to(self.by_config[ladder] ** 2, (pool, len(ladder)))
            R = a.residual**2 * self.by_task[ladder] ** 2 + F * open_
            S = a.past**2 * (D**2).sum(axis=0) / max(1, self.T - 1)
            flat = np.broadcast_to(self.flat_mean[ladder], F.shape)
            Q = epoch_correlation(np.arange(1.0, self.E + 1), ladder + 1.0, a.persistent, a.length)
            part = OnLadder(
                D, mean, mean + self.particle * D, flat.ravel(), S, R.ravel(), F.ravel(), Q
            )
            self._ladder = (key, part)
        return self._ladder[1]

    def on_grid(
        self, c: np.ndarray, e: np.ndarray, ladder: np.ndarray, Q: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`residual` between the cells (c, e) and the pool's whole grid: products of a (N, n) and a
        (N, G) part.
        """
        a, pool, N = self.amplitudes, self.past.pool, len(c)
        C = self.past.similarity[c, :pool]
        same = c[:, None] == np.arange(pool)[None]
        by_task = a.residual**2 * self.by_task[e][:, None] * self.by_task[ladder][None] * Q[e]
        by_config = self.by_config[e][:, None] * self.by_config[ladder][None] * Q[e]
        R = (a.kernel * C + (1 - a.kernel) * same)[:, :, None] * by_task[:, None]
        if self.past.unexplained.any():
            R = R + self.past.unexplained[c, :pool][:, :, None] * by_config[:, None]
        F = (0.5 * (C + same))[:, :, None] * by_config[:, None]
        return R.reshape(N, pool * len(ladder)), F.reshape(N, pool * len(ladder))


def scaled(name: str, value: float, factor: float) -> float:
    """A trial value: shares move on the odds scale, the others on the log scale."""
    if name in ("kernel", "persistent"):
        odds = value / (1 - value) * factor
        return odds / (1 + odds)
    return value * factor
