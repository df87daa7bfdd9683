"""A study's unit against its past's, and values that are absurd: two things that no model of past
curves should have to explain.

The default needs no `Unit`: the location and scale of its prior are flat (`curve_prior`). The other
methods describe a study in the past's own unit, and are told its values there.
"""

from dataclasses import dataclass

import numpy as np

from foretune.searchers.transfer.past_curves import PastCurves

# a gap so many times the range of the values above it sets those below it apart
ABSURD = 100.0
# values, and configurations that they belong to, that say what a study's range is
ENOUGH, ENOUGH_CONFIGS = 4, 2
# share of the past's range by which a study in the same unit may lie beyond it
BEYOND = 0.1
# how many times narrower than any past task's values there a study's are in another unit
NARROWER = 10.0


def absurd(c: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of a study's values `y` (N,), of configurations `c` (N,), are absurdly poor, (N,) bool:
    the lesser part of them, below a gap of `ABSURD` times the range of all the others.

    Higher is better; none below `ENOUGH` values of `ENOUGH_CONFIGS` configurations. Values that are
    absurdly good are believed: a study that jumps from chance to a result looks like that.
    """
    out = np.zeros(len(y), dtype=bool)
    order = np.argsort(y, kind="stable")
    s = y[order]
    # the values from place k on are the greater part, and at least ENOUGH
    for k in range(min(len(y) // 2, len(y) - ENOUGH), 0, -1):
        spread = s[-1] - s[k]
        if not s[k] - s[k - 1] > ABSURD * spread > 0:
            continue
        if len(np.unique(c[order[k:]])) >= ENOUGH_CONFIGS:
            out[order[:k]] = True
            break
    return out


def without_absurd(c: np.ndarray, e: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A study's values `y` (N,) of configurations `c` at epochs `e`, an absurd one being the least
    of the others at its epoch or later, or of all if there is none.
    """
    wrong = absurd(c, y)
    if not wrong.any():
        return y
    out, honest, at = y.copy(), y[~wrong], e[~wrong]
    for k in np.flatnonzero(wrong):
        out[k] = honest[at >= e[k]].min() if (at >= e[k]).any() else honest.min()
    return out


@dataclass(frozen=True)
class Unit:
    """A study's value is `shift` + `factor` times the value in its past's unit."""

    shift: float = 0.0
    factor: float = 1.0

    def to_past(self, values: np.ndarray) -> np.ndarray:
        """A study's values in its past's unit, same shape."""
        return values if self == Unit() else (values - self.shift) / self.factor

    def to_study(self, values: np.ndarray) -> np.ndarray:
        """Values of the past's unit in the study's, same shape."""
        return values if self == Unit() else self.shift + self.factor * values


def unit_of(past: PastCurves, Y: np.ndarray) -> Unit:
    """The unit of a study's values `Y` (pool, E), NaN where none: the past's own unless they are
    out of its range, or far off and all but equal beside what past tasks show in the same cells.

    Another unit is matched by the first two moments of those cells over the past tasks. One value
    alone has its location matched and says nothing of the factor.
    """
    seen = np.isfinite(Y)
    y = Y[seen]
    if not len(y):
        return Unit()
    raw = past.Z[:, : past.pool] * past.scale[:, None, None] + past.location[:, None, None]
    at, centre, spread = raw[:, seen], float(np.median(y)), float(y.std())
    low, high = float(raw.min()), float(raw.max())
    means, spreads = at.mean(axis=1), at.std(axis=1)
    beyond = BEYOND * (high - low)
    inside = low - beyond <= centre <= high + beyond
    aside = 0.5 * float(np.ptp(means))
    far = not means.min() - aside <= centre <= means.max() + aside
    narrow = len(y) >= ENOUGH and far and spread < float(spreads.min()) / NARROWER
    if inside and not narrow:
        return Unit()
    usual = float(np.sqrt((spreads**2).mean()))
    factor = spread / usual if spread > 0 and usual > 0 else 1.0
    return Unit(float(y.mean()) - factor * float(means.mean()), factor)


def told_in_past_unit(past: PastCurves, Y: np.ndarray) -> tuple[np.ndarray, Unit]:
    """A study's values `Y` (pool, E) in its past's unit, absurd ones replaced; and the unit that
    they had.
    """
    c, e = np.nonzero(np.isfinite(Y))
    out = Y.copy()
    out[c, e] = without_absurd(c, e, Y[c, e])
    unit = unit_of(past, out)
    return unit.to_past(out), unit
