"""RGPE: a ranking-weighted ensemble of Gaussian processes (Feurer, Letham and Bakshy, 2018, arXiv
1802.02219).

One process per past task and one for the target; kernel RBF on the configuration times a
correlation of epochs (the fidelity as context). A model's weight is the share of posterior samples
in which it misranks the fewest pairs of the target's observations; the target's own model is judged
leave-one-out. Past models whose median loss exceeds the target's 95th percentile are dropped
(weight dilution). Ensemble: mean = sum w_i mu_i, variance = sum w_i^2 var_i (section 4).

Past tasks are full grids, so their processes are exact by Kronecker algebra.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.errors import at_least
from foretune.gaussian.gp import Exact, KroneckerGP
from foretune.searchers.transfer.max_trial import MaxTrial, shares
from foretune.searchers.transfer.past_curves import PastCurves, epoch_correlation
from foretune.study.study import Study

NOISE = 0.01  # variance of the observations, in units of a task's spread
LATEST = 60  # observations of the target whose ranks are compared


@dataclass(frozen=True)
class Bases:
    """Kernels C (pool, pool), Q (E, E), and mean and standard deviation (T, pool, E) of the past
    tasks' processes.
    """

    C: np.ndarray
    Q: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    past: PastCurves


class RGPE(MaxTrial):
    """The ensemble under Max-Trial-GP-UCB; `samples` posterior samples decide the weights."""

    name = "rgpe"

    def __init__(self, eta: float = 0.25, samples: int = 128):
        super().__init__(eta)
        at_least(1, samples=samples)
        self.samples = samples

    def learn(self, study: Study, past: PastCurves) -> Bases:
        """The past tasks' processes at the pool's cells."""
        epochs = np.arange(1.0, past.Z.shape[2] + 1)
        C, Q = past.similarity, epoch_correlation(epochs, epochs, 0.3, 1.0)
        means, stds = [], []
        for z in past.Z:
            gp = KroneckerGP.fit([C, Q], z, NOISE)
            cross = [C[: past.pool], Q]
            means.append(gp.mean(cross))
            stds.append(np.sqrt(gp.variance(cross, np.ones(means[-1].shape))))
        return Bases(C[: past.pool, : past.pool], Q, np.stack(means), np.stack(stds), past)

    def predict(self, learned: Any, study: Study, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ensemble's mean and standard deviation in the metric's unit."""
        c, e = np.nonzero(np.isfinite(Y))
        past = learned.past
        scale = float(past.scale.mean())
        if len(c) < 3:  # nothing to rank: the past tasks' average, placed on what there is
            mean = learned.mean.mean(axis=0)
            location = (
                float(np.mean(Y[c, e] - scale * mean[c, e]))
                if len(c)
                else float(past.location.mean())
            )
            return location + scale * mean, scale * learned.std.mean(axis=0)
        y = Y[c, e]
        location, scale = float(y.mean()), max(float(y.std()), 1e-9)
        z = (y - location) / scale
        K = learned.C[np.ix_(c, c)] * learned.Q[np.ix_(e, e)]
        gp = Exact.fit(K + NOISE * np.eye(len(c)), z)
        cross = learned.C[c][:, :, None] * learned.Q[e][:, None, :]
        mean, variance = gp.predict(cross.reshape(len(c), -1), np.ones(cross[0].size))
        own, own_std = mean.reshape(Y.shape), np.sqrt(variance).reshape(Y.shape)
        w = self.weights(learned, c, e, z, K, np.random.default_rng([study.seed, study.spent]))
        base = placed(learned.mean, c, e, z)  # past predictions on the target's scale
        total = np.tensordot(w[:-1], base, axes=1) + w[-1] * own
        spread = np.tensordot(w[:-1] ** 2, learned.std**2, axes=1) + w[-1] ** 2 * own_std**2
        return location + scale * total, scale * np.sqrt(spread)

    def weights(
        self,
        learned: Bases,
        c: np.ndarray,
        e: np.ndarray,
        z: np.ndarray,
        K: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Weights (T + 1,) of the past tasks and, last, of the target's own process."""
        late = slice(max(0, len(z) - LATEST), None)
        c, e, z, K = c[late], e[late], z[late], K[late, late]
        inverse = np.linalg.inv(K + NOISE * np.eye(len(z)))
        left_out = z - (inverse @ z) / np.diag(
            inverse
        )  # leave-one-out mean and variance (Rasmussen and Williams, 5.12)
        deviation = np.sqrt(1 / np.diag(inverse))
        means = np.vstack([learned.mean[:, c, e], left_out])  # (T + 1, N)
        stds = np.vstack([learned.std[:, c, e], deviation])
        draws = means[:, None] + stds[:, None] * rng.standard_normal((1, self.samples, len(z)))
        loss = misranked(draws, z)  # (T + 1, samples)
        poor = np.median(loss[:-1], axis=1) > np.percentile(loss[-1], 95)
        loss[:-1][poor] = np.inf
        least = loss == loss.min(axis=0)
        return np.asarray((least / least.sum(axis=0)).mean(axis=1))

    def lean(self, learned: Any, study: Study, config_id: int) -> dict[str, float]:
        """The ensemble's weights of the past tasks."""
        Y = self.observed(study)[0]
        c, e = np.nonzero(np.isfinite(Y))
        if len(c) < 3:
            return shares(np.ones(len(learned.mean)), learned.past.tasks)
        z = Y[c, e]
        K = learned.C[np.ix_(c, c)] * learned.Q[np.ix_(e, e)]
        rng = np.random.default_rng([study.seed, study.spent])
        z = (z - z.mean()) / max(float(z.std()), 1e-9)
        return shares(self.weights(learned, c, e, z, K, rng)[:-1], learned.past.tasks)


def misranked(draws: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How many ordered pairs of `z` (N,) the draws (..., N) put the other way round; (...)."""
    truth = z[:, None] < z[None]
    predicted = draws[..., :, None] < draws[..., None, :]
    return np.asarray((truth ^ predicted).sum(axis=(-2, -1)), dtype=float)


def placed(base: np.ndarray, c: np.ndarray, e: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Past predictions (T, n, E) shifted and stretched to the target's observations, each by its
    own moments there.
    """
    at = base[:, c, e]
    mean, std = at.mean(axis=1), np.maximum(at.std(axis=1), 1e-3)
    stretch = np.clip(z.std() / std, 0.2, 5.0)
    return np.asarray((base - mean[:, None, None]) * stretch[:, None, None] + z.mean())
