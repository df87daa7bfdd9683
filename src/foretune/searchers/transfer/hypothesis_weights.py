"""How probable each hypothesis of `curve_prior` is beforehand, by the past itself: each past task is
forecast from the others under every hypothesis, and the weights make all of them most probable.

The weights set by hand count as many tasks as `KEPT`, so that a short past changes little. Expectation
maximisation: a task's share in a hypothesis, then the weights as the mean share.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from foretune.gaussian.gp import cholesky, whiten

if TYPE_CHECKING:
    from foretune.searchers.transfer.curve_prior import CurvePrior, Hypothesis

KEPT = 10.0  # tasks that the weights set by hand count for
FEWEST_TASKS = 6
# tasks that are forecast, and cells that they are forecast in: configurations x epochs
TASKS, CONFIGS, EPOCHS = 12, 24, 4
ROUNDS = 30
SEED = 1


def fitted_weights(prior: "CurvePrior", hypotheses: "Sequence[Hypothesis]") -> np.ndarray:
    """The hypotheses' weights, (H,), which sum to one; as they are with few past tasks."""
    weight = np.array([h.weight for h in hypotheses])
    if prior.T < FEWEST_TASKS:
        return weight
    by_hand = weight
    evidence = held_out_evidence(prior, hypotheses)
    for _ in range(ROUNDS):
        log = evidence + np.log(weight)
        share = np.exp(log - logsumexp(log, axis=1, keepdims=True))
        weight = (KEPT * by_hand + share.sum(axis=0)) / (KEPT * by_hand.sum() + len(share))
    return np.asarray(weight / weight.sum())


def held_out_evidence(prior: "CurvePrior", hypotheses: "Sequence[Hypothesis]") -> np.ndarray:
    """Log density of some past tasks' cells given the other tasks, under each hypothesis, (K, H)."""
    rng, a, G = np.random.default_rng(SEED), prior.amplitudes, prior.particle
    epochs = np.unique(np.geomspace(1, prior.E, EPOCHS).round().astype(int)) - 1
    some = rng.choice(prior.n, min(prior.n, CONFIGS), replace=False)
    c, e = np.repeat(some, len(epochs)), np.tile(epochs, len(some))
    residual, flat_cov = prior.residual(c, e, c, e, a)
    noise = a.offset**2 + np.diag((a.noise * prior.by_task[e]) ** 2 + 1e-9)
    cells, flat = prior.past.Z[:, c, e], prior.flat_mean[e]
    rows = []
    for t in rng.permutation(prior.T)[:TASKS]:
        others = np.delete(cells, t, axis=0)
        mean = others.mean(axis=0)
        D = others - mean
        S = a.past**2 * D.T @ D / (len(D) - 1)
        row = []
        for h in hypotheses:
            if h.ranked:
                K, centres = (1 - G**2) * S + h.factor**2 * residual, mean + G * D
            elif h.mirrored:
                K, centres = S + h.factor**2 * residual, (2 * flat - mean)[None]
            else:
                K, centres = flat_cov, flat[None]
            L = cholesky(K + noise)
            rest = whiten(L, (cells[t] - centres).T)
            log = -0.5 * (rest**2).sum(axis=0) - np.log(np.diag(L)).sum()
            row.append(float(logsumexp(log)) - np.log(len(centres)))
        rows.append(row)
    return np.array(rows)
