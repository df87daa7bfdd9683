"""Whether two classifiers differ by more than the choice of the images explains.

`paired` compares what both said about the same images, which is the sharper test; `unpaired` needs
their accuracies alone. Both at 95 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

QUANTILE = 1.959964  # of the normal distribution, two-sided 95 %
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """How much higher the first is than the second, half the width of the 95 % interval, and
    whether the two are tied within noise. `test` says how that was judged.
    """

    value: float
    margin: float
    tied: bool
    test: str


def paired(first: np.ndarray, second: np.ndarray) -> Difference:
    """McNemar's exact test (1947) of two classifiers by which of the same images, bool (N,), each
    recognised: the images on which they disagree are a coin's throws where both are as good.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    count, disagree = len(first), only_first + only_second
    value = (only_first - only_second) / count
    margin = QUANTILE * math.sqrt(max(disagree / count - value**2, 0.0) / count)
    p = float(binomtest(only_first, disagree, 0.5).pvalue) if disagree else 1.0
    return Difference(value, margin, p >= LEVEL, f"McNemar's test, p = {p:.2g}")


def unpaired(first: float, second: float, count: int) -> Difference:
    """Two accuracies on `count` images each, as if the images were not the same: where they are,
    the interval is too wide rather than too narrow.
    """
    error, other = (math.sqrt(max(p * (1 - p), 0.0) / count) for p in (first, second))
    return by_errors(first, second, error, other, "two proportions")


def by_errors(
    first: float, second: float, error: float, other_error: float, test: str
) -> Difference:
    """Two values with their standard errors."""
    margin = QUANTILE * math.hypot(error, other_error)
    return Difference(first - second, margin, abs(first - second) <= margin, test)
