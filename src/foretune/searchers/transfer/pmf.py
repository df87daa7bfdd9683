"""PMF: probabilistic matrix factorisation for tuning (Fusi, Sheth and Elibol, NeurIPS 2018).

Rows are cells (configuration, epoch), columns are tasks; every task is a Gaussian process over the
rows' latent positions, so that cells which behaved alike on past tasks are close. Latent positions
come from the past tasks' matrix by its leading principal components (the paper's start of its GPLVM
optimisation, kept here), the epoch is a further coordinate of context, and the kernel's length and
noise maximise the past tasks' evidence. A new task needs observations of its own: without any the
prediction is its prior, the past tasks' mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.errors import at_least
from foretune.gaussian.gp import Exact
from foretune.searchers.transfer.max_trial import MaxTrial
from foretune.searchers.transfer.past_curves import PastCurves, radial
from foretune.study.study import Study


@dataclass(frozen=True)
class Latent:
    """Latent positions P (pool * E, q + 1), the prior mean (pool, E), kernel length, noise
    variance, and the past.
    """

    P: np.ndarray
    mean: np.ndarray
    length: float
    noise: float
    past: PastCurves


class PMF(MaxTrial):
    """Gaussian processes over latent positions of cells, under Max-Trial-GP-UCB; at most `rank`
    latent dimensions.
    """

    name = "pmf"

    def __init__(self, eta: float = 0.25, rank: int = 5):
        super().__init__(eta)
        at_least(1, rank=rank)
        self.rank = rank

    def learn(self, study: Study, past: PastCurves) -> Latent:
        """Latent positions by principal components, the kernel's length and noise by the evidence
        of the past tasks.
        """
        T, _, E = past.Z.shape
        cells = past.Z[:, : past.pool].reshape(T, -1)  # (T, pool E)
        U, s, _ = np.linalg.svd(cells.T - cells.T.mean(axis=0), full_matrices=False)
        q = min(self.rank, max(1, int((s > 1e-9 * s[0]).sum())))
        P = U[:, :q] * s[:q] / np.sqrt(len(U))
        context = np.tile(np.arange(1, E + 1) / E, past.pool)[:, None]
        P = np.hstack(
            [P / max(float(P.std(axis=0).max()), 1e-9), context]
        )  # a past without any differences has no spread
        some = np.random.default_rng(0).choice(len(P), min(len(P), 150), replace=False)
        best = (-np.inf, 1.0, 0.01)
        for length in (0.3, 0.6, 1.2, 2.4):
            K = radial(P[some], P[some], length)
            for noise in (0.001, 0.01, 0.05):
                held = [
                    Exact.fit(K + noise * np.eye(len(some)), z[some] - z[some].mean()).log_marginal
                    for z in cells
                ]
                best = max(best, (float(np.mean(held)), length, noise))
        return Latent(P, cells.mean(axis=0).reshape(past.pool, E), best[1], best[2], past)

    def predict(self, learned: Any, study: Study, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The target's process at all cells, in the metric's unit."""
        past = learned.past
        seen = np.isfinite(Y)
        scale = float(past.scale.mean())
        if not seen.any():
            return float(past.location.mean()) + scale * learned.mean, np.full(Y.shape, scale)
        if seen.sum() > 5 and learned.mean[seen].std() > 0.05:
            scale = float(np.clip(Y[seen].std() / learned.mean[seen].std(), 0.2 * scale, 5 * scale))
        location = float(np.mean(Y[seen] - scale * learned.mean[seen]))
        z = (Y[seen] - location) / scale - learned.mean[seen]
        at = learned.P[seen.ravel()]
        gp = Exact.fit(radial(at, at, learned.length) + learned.noise * np.eye(len(at)), z)
        mean, variance = gp.predict(radial(at, learned.P, learned.length), np.ones(len(learned.P)))
        total = learned.mean + mean.reshape(Y.shape)
        return location + scale * total, scale * np.sqrt(variance).reshape(Y.shape)
