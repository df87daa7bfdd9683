"""Which unit a study's values are in beside its past's, and which of them are absurd: two things
that no model of past curves should have to explain.

A study told in per cent whose past is in fractions has the past's values times a power of ten; one
told as a loss has their complement (1 - value, or 100 - value of per cent). Its values say which:
by their level and their spread, against those of the past tasks in the same cells.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from foretune.searchers.transfer.past_curves import PastCurves, learned_from_past

if TYPE_CHECKING:
    from foretune.study.study import Study

Values = TypeVar("Values", float, np.ndarray)

# powers of ten that one tells a metric in beside another: per cent, per mille, thousands, parts
# per million, and back. A factor in between is left to the prior of scale
POWERS = (2, -2, 3, -3, 4, -4, 6, -6)
SAME = 0.9  # prior probability that a study is in its past's unit
# share of the past's range by which a task may lie beyond it, and from how many ranges on a value
# is absurd
BEYOND, ABSURD = 0.5, 10.0
STRANGE = 1e-3  # probability of a value that is not usual in its unit
DEGREES = 4.0  # of Student's t that level and log spread of a new task have
LOG_SPREAD = 0.7  # least standard deviation of tasks' log spread
# a gap so many times the range of the values above it sets those below it apart
GAP = 100.0
# values, and configurations that they belong to, that say what a study's range is
ENOUGH, ENOUGH_CONFIGS = 4, 2


@dataclass(frozen=True)
class Unit:
    """A study's value is `shift` + `factor` times the value in its past's unit."""

    factor: float = 1.0
    shift: float = 0.0

    def to_past(self, values: np.ndarray) -> np.ndarray:
        """A study's values in its past's unit, same shape."""
        return (values - self.shift) / self.factor

    def to_study(self, values: Values) -> Values:
        """Values of the past's unit in the study's, same shape."""
        return self.shift + self.factor * values


@dataclass(frozen=True)
class Units:
    """The units that a study with past values between `low` and `high` may be in; the past's own
    is the first.
    """

    low: float
    high: float
    candidates: tuple[Unit, ...]

    @classmethod
    def of(cls, past: PastCurves) -> "Units":
        """The past's own unit, powers of ten of it and, where all of its values have one sign,
        those of its complement.
        """
        raw = past.raw
        low, high = float(raw.min()), float(raw.max())
        shifts, most = [0.0], max(abs(low), abs(high))
        if most > 0 and (low >= 0 or high <= 0):
            full = 10.0 ** float(np.ceil(np.log10(most) - 1e-9))
            shifts.append(-full if low >= 0 else full)
        factors = [1.0, *(10.0**k for k in POWERS)]
        return cls(low, high, tuple(Unit(f, f * shift) for shift in shifts for f in factors))

    @property
    def range(self) -> float:
        """Of the past's values; positive."""
        return max(self.high - self.low, 1e-9 * max(abs(self.low), abs(self.high)), 1e-300)

    def usual(self, values: np.ndarray) -> np.ndarray:
        """Which of `values` in the past's unit lie where past values do, same shape: no further
        beyond than `BEYOND` of their range, and not on the other side of zero.
        """
        low, high = self.low - BEYOND * self.range, self.high + BEYOND * self.range
        low = max(low, 0.0) if self.low >= 0 else low
        high = min(high, 0.0) if self.high <= 0 else high
        return (values >= low) & (values <= high)

    @property
    def highest(self) -> float:
        """The largest value in the past's unit that is not absurd."""
        return self.high + ABSURD * self.range

    def absurd(self, values: np.ndarray) -> np.ndarray:
        """Which of `values` in the past's unit are more than `ABSURD` ranges beyond the past's."""
        return (values < self.low - ABSURD * self.range) | (values > self.highest)

    def recognised(self, past: np.ndarray, y: np.ndarray) -> Unit | None:
        """The most probable unit of a study's values `y` (N,), given the past tasks' in the same
        cells `past` (T, N); None if they are usual in none.

        Half of the values must be usual in it, and none absurd that is usual in the past's own.
        Level and log spread have Student's t distributions around the past tasks'. The spread is
        that of the middle half, so that one value more or less does not matter.
        """
        factor = np.array([unit.factor for unit in self.candidates])
        values = np.stack([unit.to_past(y) for unit in self.candidates])  # (U, N)
        usual, absurd = self.usual(values), self.absurd(values)
        strange = (~usual).sum(axis=1)
        possible = (2 * strange <= len(y)) & ~(absurd & usual[0]).any(axis=1)
        if not possible.any():
            return None
        level, width = np.median(past, axis=1), middle_half(past)  # (T,)
        scale = max(float(level.std()), float(width.mean()), 1e-3 * self.range)
        middles = np.sort(values, axis=1)[:, [(len(y) - 1) // 2, len(y) // 2]]
        log_p = student(np.abs(middles - level.mean()).min(axis=1) / scale) - np.log(factor)
        log_p += strange * np.log(STRANGE) + np.log((1 - SAME) / (len(factor) - 1))
        log_p[0] += np.log(SAME) - np.log((1 - SAME) / (len(factor) - 1))
        if (own := middle_half(y[None])[0]) > 0:
            usual_width = np.log(np.maximum(width, 1e-6 * self.range))
            apart = np.log(own / factor) - usual_width.mean()
            log_p += student(apart / max(float(usual_width.std()), LOG_SPREAD))
        return self.candidates[int(np.where(possible, log_p, -np.inf).argmax())]

    def believed(
        self, past: np.ndarray, c: np.ndarray, e: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Unit | None]:
        """Observations `y` (N,) of configurations `c` at epochs `e` in the past's unit, absurd ones
        replaced or left out, and the unit that they had; as they are where that is none's.

        `past` (T, N) are the past tasks' values in the same cells.
        """
        if not len(y):
            return c, e, y, Unit()
        unit = self.recognised(past, y)
        values = y if unit is None else unit.to_past(y)
        absurd = below_gap(c, y) if unit is None else self.absurd(values)
        return *without_absurd(c, e, values, absurd), unit


def in_past_unit(study: "Study") -> tuple[np.ndarray, Unit]:
    """A study's values (pool, E), NaN where there is none, in its past's unit and without absurd
    ones; and the unit that they have.

    An unknown unit is matched by mean and standard deviation of the cells seen. Raises `BadInput`
    as `past_curves` does.
    """
    units = learned_from_past(study, "units", Units.of)
    past = learned_from_past(study, "past", lambda past: past)
    c, e = np.nonzero(np.isfinite(study.Y))
    at = past.raw[:, c, e]
    c, e, y, unit = units.believed(at, c, e, study.Y[c, e])
    if unit is None:
        at = past.raw[:, c, e]
        usual = float(np.sqrt(at.var(axis=1).mean()))
        factor = float(y.std()) / usual if y.std() > 0 and usual > 0 else 1.0
        unit = Unit(factor, float(y.mean()) - factor * float(at.mean()))
        y = unit.to_past(y)
    Y = np.full(study.Y.shape, np.nan)
    Y[c, e] = y
    return Y, unit


def student(z: np.ndarray) -> np.ndarray:
    """Log density of Student's t at `z`, up to a constant, same shape."""
    return np.asarray(-0.5 * (DEGREES + 1) * np.log1p(z**2 / DEGREES))


def middle_half(values: np.ndarray) -> np.ndarray:
    """From the lower to the upper quartile of each row of `values` (T, N), (T,)."""
    low, high = np.quantile(values, (0.25, 0.75), axis=1)
    return np.asarray(high - low)


def below_gap(c: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of a study's values `y` (N,), of configurations `c` (N,), are absurdly poor in any
    unit, (N,) bool: the lesser part of them, below a gap of `GAP` times the range of all the
    others.

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
