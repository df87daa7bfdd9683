"""Where a new task's values lie: location A and scale B of y = A + B (g + noise), integrated out.

Notation: N observations y; P components of a prior of g with means m (N, P) and one covariance L
L^T (N, N), noise included; w = L^-1 1. Given B, (y - A) / B - m is normal.

A task in the same unit as its past lies where past tasks do: A is normal and log B normal around
theirs (`Around`). Of a task in an unknown unit nothing is known: A is uniform over a range that the
values themselves give, and so is log B (`Anywhere`). Evidence is comparable between the two: both
are proper densities of y, up to (2 pi)^(-N / 2).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foretune.gaussian.gp import whiten

SCALES = np.linspace(-3.0, 3.0, 13)  # grid of log B, in standard deviations of its prior
MODE_GRID = np.linspace(-4.0, 4.0, 17)  # grid of log 1 / B around its mode, in standard deviations
# B of a task in an unknown unit, in shares of its largest value
LEAST_SCALE, LARGEST_SCALE = 1e-4, 10.0


@dataclass(frozen=True)
class Whitened:
    """`one` = w (N,), `values` = L^-1 (y - centre) (N,), `means` = L^-1 m (N, P), and log |L|."""

    one: np.ndarray
    values: np.ndarray
    means: np.ndarray
    log_det: float
    centre: float

    @classmethod
    def of(cls, L: np.ndarray, means: np.ndarray, y: np.ndarray) -> "Whitened":
        """Observations `y` (N,) under a covariance of factor `L` and means (P, N)."""
        centre = float(y.mean())
        white = whiten(L, np.column_stack([np.ones_like(y), y - centre, means.T]))
        log_det = float(np.log(np.diag(L)).sum())
        return cls(white[:, 0], white[:, 1], white[:, 2:], log_det, centre)


class Placed(NamedTuple):
    """Expected location and scale (P,), log evidence (P,) of y, and the whitened rest (N, P)."""

    location: np.ndarray
    scale: np.ndarray
    evidence: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True)
class Around:
    """A ~ N(location, spread^2), log B ~ N(log_scale, log_spread^2)."""

    location: float
    spread: float
    log_scale: float
    log_spread: float

    def unseen(self, P: int) -> Placed:
        """Without observations: the prior's own."""
        location, scale = np.full(P, self.location), np.full(P, np.exp(self.log_scale))
        return Placed(location, scale, np.zeros(P), np.zeros((0, P)))

    def place(self, white: Whitened) -> Placed:
        """For each B of a grid, (y - A) / B - m is normal with covariance L L^T plus (spread / B)^2
        in every cell: a rank-one change of the same factor.
        """
        B = np.exp(self.log_scale + self.log_spread * SCALES)[:, None]  # (G, 1)
        one, m = white.one, white.means
        values = white.values + (white.centre - self.location) * one
        # squares of values / B - m and its product with `one`, from inner products
        quadratic = (values @ values) / B**2 - 2 * (values @ m) / B + (m**2).sum(axis=0)  # (G, P)
        along = (one @ values) / B - one @ m
        variance = (self.spread / B) ** 2
        inflation = 1 + variance * (one @ one)
        quadratic = quadratic - variance * along**2 / inflation
        log_p = (
            -0.5 * quadratic
            - 0.5 * np.log(inflation)
            - len(values) * np.log(B)
            - 0.5 * SCALES[:, None] ** 2
        )
        top = log_p.max(axis=0)
        p = np.exp(log_p - top)
        # the grid's weights sum to one
        total = np.exp(-0.5 * SCALES**2).sum()
        evidence = top + np.log(p.sum(axis=0) / total) - white.log_det
        p /= p.sum(axis=0)
        scale = np.exp((p * np.log(B)).sum(axis=0))
        location = self.location + (p * B * variance * along / inflation).sum(axis=0)
        rest = (values[:, None] - (location - self.location) * one[:, None]) / scale - m
        return Placed(location, scale, evidence, rest)


@dataclass(frozen=True)
class Anywhere:
    """A uniform over +-2 `largest`, log B over `LEAST_SCALE` to `LARGEST_SCALE` of it.

    `scale` is B where a single value says nothing of it.
    """

    largest: float
    scale: float

    def place(self, white: Whitened) -> Placed:
        """With v and u what is left of the values and of m without their parts along w,

            log p(y | b) = -(v v b^2 - 2 v u b + u u) / 2 + (N - 1) log b - log(w w) / 2 + const

        in b = 1 / B, concave in log b: greatest at the positive root of v v b^2 - v u b = N - 1,
        where its curvature is -(v v b^2 + N - 1). The grid over log b lies around it.
        """
        one, m, N, P = white.one, white.means, len(white.one), white.means.shape[1]
        length = float(one @ one)
        values = white.values / self.largest
        v, u = values - one * (one @ values) / length, m - np.outer(one, one @ m) / length
        vv, vu, uu = float(v @ v), v @ u, (u**2).sum(axis=0)  # (), (P,), (P,)
        evidence = 0.5 * np.log(2 * np.pi / length) - white.log_det - 0.5 * uu
        evidence -= np.log(4) + N * np.log(self.largest)
        scale = np.full(P, self.scale / self.largest)
        if N > 1:
            free = N - 1
            root = vu + np.sqrt(vu**2 + 4 * vv * free)
            mode = np.clip(root / max(2 * vv, 1e-300), 1 / LARGEST_SCALE, 1 / LEAST_SCALE)
            width = 1 / np.sqrt(vv * mode**2 + free)
            b = mode * np.exp(width * MODE_GRID[:, None])  # (G, P)
            log_p = -0.5 * vv * b**2 + vu * b + free * np.log(b)
            log_p[(b > 1.0001 / LEAST_SCALE) | (b < 0.9999 / LARGEST_SCALE)] = -np.inf
            top = log_p.max(axis=0)
            p = np.exp(log_p - top)
            step = (MODE_GRID[1] - MODE_GRID[0]) * width
            evidence += top + np.log(p.sum(axis=0) * step / np.log(LARGEST_SCALE / LEAST_SCALE))
            p /= p.sum(axis=0)
            scale = np.exp(-(p * np.log(b)).sum(axis=0))
        offset = (one @ values - scale * (one @ m)) / length
        rest = (values[:, None] - offset * one[:, None]) / scale - m
        return Placed(white.centre + self.largest * offset, self.largest * scale, evidence, rest)
