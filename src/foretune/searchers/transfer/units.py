"""Units that a study's values may have beside its past's, and values that are absurd: two things
that no model of past curves should have to explain.

A study in per cent whose past is in fractions, or one told as a loss (1 - value), has the past's
values times a power of ten, or their complement. Which unit a study has, its own values decide by
their evidence (`curve_prior`).
"""

from dataclasses import dataclass

import numpy as np

from foretune.searchers.transfer.past_curves import PastCurves

POWERS = range(-6, 7)
# prior probabilities of the past's own unit, and of one that none of the others is
SAME, UNKNOWN = 0.5, 0.25
# probability that a value is absurd
ABSURD_SHARE = 1e-3
# a gap so many times the range of the values above it sets those below it apart
GAP = 100.0
# values, and configurations that they belong to, that say what a study's range is
ENOUGH, ENOUGH_CONFIGS = 4, 2


@dataclass(frozen=True)
class Unit:
    """A study's value is `shift` + `factor` times the value in its past's unit; `weight` is its
    prior probability, and values of a study in it lie between `low` and `high`.
    """

    factor: float
    shift: float
    weight: float
    low: float
    high: float

    def absurd(self, y: np.ndarray) -> np.ndarray:
        """Which of a study's values `y` (N,) no study in this unit has, (N,) bool."""
        return (y < self.low) | (y > self.high)


def units_of(past: PastCurves) -> tuple[Unit, ...]:
    """The past's own unit first, then its powers of ten and, where all of its values have one sign,
    those of its complement (1 - value, or 100 - value of a past in per cent).

    A new task may lie as far beyond the past's values as these lie apart.
    """
    raw = past.Z[:, : past.pool] * past.scale[:, None, None] + past.location[:, None, None]
    low, high = float(raw.min()), float(raw.max())
    most = max(abs(low), abs(high))
    shifts = [0.0]
    if most > 0 and (low >= 0 or high <= 0):
        full = 10.0 ** np.ceil(np.log10(most) - 1e-9)
        shifts.append(-full if low >= 0 else full)
    places = sorted(((10.0**k, s) for k in POWERS for s in shifts), key=lambda p: p != (1.0, 0.0))
    reach = max(high - low, 1e-9)
    return tuple(
        Unit(
            factor,
            factor * shift,
            SAME if not k else (1 - SAME - UNKNOWN) / (len(places) - 1),
            factor * (shift + low - reach),
            factor * (shift + high + reach),
        )
        for k, (factor, shift) in enumerate(places)
    )


def below_gap(c: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of a study's values `y` (N,), of configurations `c` (N,), are absurdly poor in any unit,
    (N,) bool: the lesser part of them, below a gap of `GAP` times the range of all the others.

    Higher is better; none below `ENOUGH` values of `ENOUGH_CONFIGS` configurations. Values that are
    absurdly good are believed: a study that jumps from chance to a result looks like that.
    """
    out = np.zeros(len(y), dtype=bool)
    order = np.argsort(y, kind="stable")
    s = y[order]
    # the values from place k on are the greater part, and at least ENOUGH
    for k in range(min(len(y) // 2, len(y) - ENOUGH), 0, -1):
        spread = s[-1] - s[k]
        if not s[k] - s[k - 1] > GAP * spread > 0:
            continue
        if len(np.unique(c[order[k:]])) >= ENOUGH_CONFIGS:
            out[order[:k]] = True
            break
    return out


def without_absurd(
    c: np.ndarray, e: np.ndarray, y: np.ndarray, absurd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations `y` (N,) of configurations `c` at epochs `e` without the `absurd` (N,) ones: a
    poor one becomes the least of the others at its epoch or later, or of all if there is none; a
    good one is left out.
    """
    if not absurd.any():
        return c, e, y
    honest, at = y[~absurd], e[~absurd]
    out = y.copy()
    for k in np.flatnonzero(absurd):
        later = honest[at >= e[k]]
        out[k] = later.min() if len(later) else honest.min()
    keep = ~absurd | (y < honest.min())
    return c[keep], e[keep], out[keep]
