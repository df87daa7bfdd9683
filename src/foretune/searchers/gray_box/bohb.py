"""BOHB: Hyperband whose new configurations come from two kernel density estimates (Falkner et al.,
ICML 2018, Algorithm 2).

Notation: b = budget (epochs), D_b = configurations observed at b, d = columns, q = share of good
ones, N_min = d + 1.

    with probability rho, or while no budget has N_min + 2 observations: a random configuration
    else take the largest such b; l = density of the N_l = max(N_min, q |D_b|) best of D_b,
    g = of the max(N_min, |D_b| - N_l) worst; draw N_s configurations from l with its bandwidths
    widened by b_w, take the one with the largest l / g

Densities are products over the columns of the encoding: normal kernels for numbers, match-or-not
kernels for one-hot and activity columns, bandwidths by Scott's rule. Two simplifications at the
bounds: a kernel's mass outside [0, 1] is not given back to the inside (the density is not
renormalised, so it is too low near a bound, in l and g alike), and draws from l that fall outside
are clipped to the bound instead of drawn again, so that bounds are drawn more often than l says.

In a finite pool a draw stands for the nearest configuration that was not started. In an open space
no points are drawn from l: the candidates are neighbours of the good configurations
(`Space.neighbours`), and the best of those that were not started is taken by l / g.
"""

import numpy as np

from foretune.errors import at_least, positive, within
from foretune.searchers.base import best_startable, draw
from foretune.searchers.gray_box.asha import score_at
from foretune.searchers.gray_box.hyperband import Hyperband, brackets
from foretune.space.space import choices
from foretune.study.plan import Choice
from foretune.study.study import Study

LEAST_BANDWIDTH = 1e-3


class Density:
    """A kernel density over rows in [0, 1]^d; columns of `binary` hold only 0 and 1."""

    def __init__(self, rows: np.ndarray, binary: np.ndarray):
        n, d = rows.shape
        self.rows, self.binary = rows, binary
        scott = n ** (-1 / (d + 4))
        self.width = np.where(
            binary,
            np.clip(0.5 * scott, 0.05, 0.45),
            np.maximum(rows.std(axis=0) * scott, LEAST_BANDWIDTH),
        )

    def log(self, at: np.ndarray) -> np.ndarray:
        """Log density of points (k, d), (k,)."""
        difference = at[:, None, :] - self.rows[None]  # (k, n, d)
        number = -0.5 * (difference / self.width) ** 2 - np.log(self.width)
        match = np.where(
            np.abs(difference) < 0.5, np.log1p(-self.width * self.binary), np.log(self.width)
        )
        each = np.where(self.binary, match, number).sum(axis=2)
        top = each.max(axis=1)
        return top + np.log(np.exp(each - top[:, None]).mean(axis=1))

    def draw(self, k: int, widen: float, rng: np.random.Generator) -> np.ndarray:
        """k points, bandwidths of numbers multiplied by `widen`, (k, d)."""
        base = self.rows[rng.integers(len(self.rows), size=k)]
        moved = np.clip(base + rng.normal(size=base.shape) * self.width * widen, 0, 1)
        flipped = np.where(rng.random(base.shape) < self.width, 1 - base, base)
        return np.where(self.binary, flipped, moved)


class BOHB(Hyperband):
    """Hyperband with model-based sampling.

    `rho` random share, `q` share of good ones, `samples` = N_s, `widen` = b_w, as in the paper.
    """

    name = "bohb"

    def __init__(
        self,
        eta: float = 3.0,
        rho: float = 1 / 3,
        q: float = 0.15,
        samples: int = 64,
        widen: float = 3.0,
    ):
        super().__init__(eta=eta)
        within(0, 1, rho=rho, q=q)
        at_least(1, samples=samples)
        positive(widen=widen)
        self.rho, self.q, self.samples, self.widen = rho, q, samples, widen

    def sample(self, study: Study, rng: np.random.Generator) -> Choice | None:
        """A configuration by the ratio of densities, else a random one."""
        split = None if rng.random() < self.rho else self.split(study)
        if split is None:
            return draw(study, rng)
        binary = binary_columns(study)
        good, bad = (Density(study.X[ids], binary) for ids in split)
        if study.open_space:
            near = [
                n
                for i in split[0]
                for n in study.space.neighbours(
                    study.configs[i], rng, 1 + self.samples // len(split[0])
                )
            ]
            x = study.space.encode(near)
            chosen = best_startable(study, near, good.log(x) - bad.log(x))
            return draw(study, rng) if chosen is None else chosen
        fresh = np.flatnonzero(study.available & (study.epoch == 0))
        if not len(fresh):
            return None
        points = good.draw(self.samples, self.widen, rng)
        nearest = np.unique(
            fresh[((points[:, None] - study.X[fresh][None]) ** 2).sum(axis=2).argmin(axis=1)]
        )
        return int(nearest[np.argmax(good.log(study.X[nearest]) - bad.log(study.X[nearest]))])

    def split(self, study: Study) -> tuple[np.ndarray, np.ndarray] | None:
        """Ids of the good and the bad at the largest budget with enough observations; failed ones
        are bad.

        None while there is no such budget.
        """
        least = study.X.shape[1] + 1
        rungs = sorted(
            {e for bracket in brackets(study.max_epoch, self.eta) for e in bracket.epochs},
            reverse=True,
        )
        for b in rungs:
            ids = np.flatnonzero((study.epoch >= b) | study.failed)
            score = score_at(study, b)[ids]
            if np.isfinite(score).sum() < least + 2:
                continue
            ranked = ids[np.argsort(-score, kind="stable")]
            good = max(least, int(self.q * len(ids)))
            return ranked[:good], ranked[-max(least, len(ids) - good) :]
        return None


def binary_columns(study: Study) -> np.ndarray:
    """Which columns of the encoding hold only 0 and 1: one-hot and activity columns, (d,) bool."""
    space = study.space
    out = np.zeros(space.dims, dtype=bool)
    for name, columns in space.columns.items():
        out[columns] = bool(choices(space.parameters[name]))
    out[space.dims - len(space.conditional) :] = True
    return out
