"""Where a task departs from what past runs say of it: how far a departure reaches in the study's own
space, fitted on the study's own values.

What a forecast leaves unexplained has the correlation

    r(x, x') = (1 - alone) exp(-sum_k (x_k - x'_k)^2 / (2 l_k^2)) + alone 1[x = x']

between two configurations. A departure that is each configuration's own (alone = 1) promises as much
beside the best one as anywhere; one that neighbours share is known there after a few of them. Which of
the two it is, and along which hyperparameters it changes, the past cannot say: alone and l maximise the
evidence of the values told, times a prior around where the search starts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

ALONE = (1.0, 0.3, 0.1, 0.03, 0.01)
REACHES = (0.5, 1.0, 2.0, 4.0)  # lengths, in those of the start
FROM_VALUES = 6  # values told from which every coordinate has a length of its own
MOST_COORDINATES = 24  # that have one
APART = 1.4  # spread of the prior of a logarithm of a length
WORTH = 0.05  # of evidence: less is no reason to move


@dataclass(frozen=True)
class Departure:
    """A correlation of departures: `lengths` (d,), and the share `alone` of each configuration's own."""

    lengths: np.ndarray
    alone: float

    def near(self, X1: np.ndarray, X2: np.ndarray) -> np.ndarray:
        """What points (n1, d) and (n2, d) have in common by their place, (n1, n2)."""
        Z1, Z2 = X1 / self.lengths, X2 / self.lengths
        apart = (Z1**2).sum(axis=1)[:, None] + (Z2**2).sum(axis=1)[None] - 2 * Z1 @ Z2.T
        return np.asarray((1 - self.alone) * np.exp(-0.5 * np.maximum(apart, 0.0)))

    def log_prior(self, start: "Departure") -> float:
        """Up to a constant, about a start."""
        steps = np.log(self.lengths / start.lengths) / APART
        share = math.log10(self.alone / start.alone)
        return -0.5 * float((steps**2).max(initial=0.0) + 0.3 * (steps**2).sum()) - 0.5 * share**2


def succession(X: np.ndarray, tried: np.ndarray, improved: np.ndarray, length: float) -> np.ndarray:
    """The chance (n,) that a promise at points X (n, d) comes true, by Laplace's rule of succession:
    (s + 1) / (k + 2) after k tries nearby, at points (N, d), s of which `improved` (N,) on what was
    best then; 1/2 where nothing was tried. Near is by a normal kernel of half the `length`.
    """
    near = Departure(np.full(X.shape[1], 0.5 * length), 0.0).near(X, tried)
    return np.asarray((near @ improved + 1) / (near.sum(axis=1) + 2))


def improvements(y: np.ndarray) -> np.ndarray:
    """Which of values (N,), in the order they were found, were better than all before; not the
    first.
    """
    return y > np.r_[np.inf, np.maximum.accumulate(y)[:-1]][: len(y)]


def look_elsewhere(improved: np.ndarray, rng: np.random.Generator) -> bool:
    """Whether it is the turn of a search without history: up to every other one, the more tries
    (N,), in their order, there were since the last that `improved`, by the rule of succession.
    """
    since = len(improved) - 1 - int(np.flatnonzero(improved).max(initial=0))
    return bool(rng.random() < 0.5 * since / (since + 2))


def fitted(X: np.ndarray, start: Departure, evidence: Callable[[np.ndarray], float]) -> Departure:
    """The departure under which values at points (N, d), all different, are most probable;
    `evidence` is the logarithm of their density, given the correlation (N, N).
    """
    eye = np.eye(len(X))

    def worth(d: Departure) -> float:
        return evidence(d.near(X, X) + d.alone * eye) + d.log_prior(start)

    best = max(
        (
            Departure(start.lengths * reach, alone)
            for alone in ALONE
            for reach in (REACHES if alone < 1 else (1.0,))
        ),
        key=worth,
    )
    varied = np.flatnonzero(np.ptp(X, axis=0) > 1e-9) if len(X) else np.empty(0, dtype=int)
    if len(X) < FROM_VALUES or best.alone == 1.0 or len(varied) > MOST_COORDINATES:
        return best
    at = worth(best)
    for factor in (4.0, 0.5):
        for k in varied:
            lengths = best.lengths.copy()
            lengths[k] *= factor
            moved = replace(best, lengths=lengths)
            if (tried := worth(moved)) > at + WORTH:
                best, at = moved, tried
    return best
