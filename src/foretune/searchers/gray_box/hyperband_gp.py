"""Hyperband that starts what a Gaussian process on the highest informed rung expects to win: a
millisecond a decision.

Notation: b = epochs of a rung, D_b = configurations that reached b or failed, x (d,) encoding, r in
(0, 1) = rank in D_b of the best value up to b.

    with probability rho, or while no rung has `least` configurations: a random configuration
    else take the largest such b; fit r (standardised) with a Gaussian process, Matern 5/2 of one
    length scale l sqrt(d), on the pool's columns as ranks; l of the highest marginal likelihood
    among `LENGTHS`; start the configuration that was not started yet with the largest expected
    improvement

Brackets and promotions are Hyperband's. On the even half of the tasks, where it was designed, it
beat plain and asynchronous halving and forecasts of whole curves (freeze-thaw): later brackets
hedge against what looks good early, and random starts are Hyperband's weakness. On the odd half the
gain was smaller and `dyhpo` better (`docs/notes/gray-box.md`). Ranks make it independent of unit,
outliers and divergence. `least` = 12: with 6, the process misled the first brackets on spaces of
many columns.

Everything is read off the history; nothing is stored. Configurations under way lower the variance
near them.
"""

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.stats import rankdata

from foretune.errors import at_least, within
from foretune.gaussian.acquisition import log_expected_improvement, pick
from foretune.searchers.base import best_startable, draw
from foretune.searchers.gray_box.asha import score_at
from foretune.searchers.gray_box.curve_gp import matern, spread_out
from foretune.searchers.gray_box.hyperband import Hyperband, brackets
from foretune.study.plan import Choice
from foretune.study.study import Study

LENGTHS = (0.2, 0.5, 1.0)
NOISE = 0.1  # variance of a standardised rank
# open spaces: best configurations whose neighbours compete with fresh samples
NEAR, SAMPLES = 4, 256


def rank_process(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, under_way: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (k,) at points (k, d) given standardised values y (n,) at x (n,
    d).

    `under_way` (p, d) are points whose values are still to come: they narrow the deviation only.
    """
    root = np.sqrt(max(x.shape[1], 1))
    best, chosen = -np.inf, LENGTHS[0]
    for length in LENGTHS:
        k = matern(x, x, np.full(x.shape[1], length * root))[0] + NOISE * np.eye(len(x))
        factor = np.linalg.cholesky(k)
        white = solve_triangular(factor, y, lower=True)
        likelihood = -0.5 * white @ white - np.log(np.diag(factor)).sum()
        if likelihood > best:
            best, chosen, weights = likelihood, length, cho_solve((factor, True), y)
    lengths = np.full(x.shape[1], chosen * root)
    mean = matern(at, x, lengths)[0] @ weights
    known = np.vstack([x, under_way])
    factor = np.linalg.cholesky(matern(known, known, lengths)[0] + NOISE * np.eye(len(known)))
    v = solve_triangular(factor, matern(known, at, lengths)[0], lower=True)
    return mean, np.sqrt(np.maximum(1 - (v * v).sum(axis=0), 1e-6))


class HyperbandGP(Hyperband):
    """Hyperband with starts by expected improvement; `rho` random share, `least` configurations
    that a rung needs.
    """

    name = "hyperband-gp"

    def __init__(self, eta: float = 3.0, rho: float = 0.25, least: int = 12):
        super().__init__(eta=eta)
        within(0, 1, rho=rho)
        at_least(2, least=least)
        self.rho, self.least = rho, least

    def informed(self, study: Study) -> tuple[np.ndarray, np.ndarray] | None:
        """Ids (n,) and standardised ranks (n,) at the highest rung that has enough configurations;
        None if none has.
        """
        for b in sorted(
            {e for bracket in brackets(study.max_epoch, self.eta) for e in bracket.epochs},
            reverse=True,
        ):
            ids = np.flatnonzero((study.epoch >= b) | (study.failed & (study.epoch > 0)))
            score = score_at(study, b)[ids]
            if np.isfinite(score).sum() >= self.least:
                rank = rankdata(score) / len(ids)  # ties and failures share a rank
                spread = rank.std()
                return (ids, (rank - rank.mean()) / spread) if spread > 0 else None
        return None

    def sample(self, study: Study, rng: np.random.Generator) -> Choice | None:
        """A configuration by expected improvement, else a random one."""
        informed = None if rng.random() < self.rho else self.informed(study)
        if informed is None:
            return draw(study, rng)
        ids, y = informed
        under_way = np.setdiff1d(np.flatnonzero(study.pending), ids)
        if study.open_space:
            top = ids[np.argsort(-y, kind="stable")[:NEAR]]
            share = SAMPLES // (2 * NEAR)
            near = [n for i in top for n in study.space.neighbours(study.configs[i], rng, share)]
            configs = study.space.sample(SAMPLES, rng) + near
            mean, deviation = rank_process(
                study.X[ids], y, study.space.encode(configs), study.X[under_way]
            )
            chosen = best_startable(
                study, configs, log_expected_improvement(mean, deviation, y.max())
            )
            return draw(study, rng) if chosen is None else chosen
        fresh = np.flatnonzero(study.available & (study.epoch == 0))
        if not len(fresh):
            return None
        x = spread_out(study.X)
        mean, deviation = rank_process(x[ids], y, x[fresh], x[under_way])
        return int(fresh[pick(log_expected_improvement(mean, deviation, y.max()), rng, 1e-9)])
