"""Whether kept results, made by other code, are what the code as it is gives: judged by a sample.

After a change of code that should change no number, a stage makes a few units of its work again
(`--compare N`), drawn by the fingerprint of the new code so that nobody chooses them, and compares
them with what is kept:

1. Equal bit for bit: the kept results stand.
2. Else rounding may be the reason, since another processor adds in another order. Then no number
may
   differ by more than rounding alone makes it (a bound of the stage's own, measured; 0 where
   rounding does nothing), and the figure that the tables are made of must not have shifted: the
   mean of its differences, remade minus kept, has a 95 % interval (paired t, over all units that
   differ) that holds zero.
3. Else the work is done again, all of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

LEVEL = 0.95  # of the interval
Unit = TypeVar("Unit")


@dataclass(frozen=True)
class Pair:
    """A unit of work as it is kept and as it was made again.

    `kept` and `made` are all its numbers, in one order; `rounding` is the largest difference that
    rounding alone makes; `figures` is the one number that the tables are made of (kept, made), such
    as a mean regret; without it the unit says nothing about a shift.
    """

    unit: str
    kept: np.ndarray
    made: np.ndarray
    rounding: float = 0.0
    figures: tuple[float, float] | None = None

    @property
    def equal(self) -> bool:
        """Bit for bit."""
        return np.array_equal(self.kept, self.made, equal_nan=True)

    @property
    def largest(self) -> float:
        """The largest difference of a number; infinite where one of the two lacks a number."""
        if self.kept.shape != self.made.shape:
            return float("inf")
        known = np.isfinite(self.kept)
        if not np.array_equal(known, np.isfinite(self.made)):
            return float("inf")
        return float(np.abs(self.made[known] - self.kept[known]).max(initial=0.0))

    @property
    def beyond_rounding(self) -> str:
        """What differs by more than rounding, in words; empty if nothing does."""
        if self.equal or self.largest <= self.rounding:
            return ""
        if not np.isfinite(self.largest):
            return f"{self.unit} differs in what it holds"
        allowed = f", of which rounding explains {self.rounding:g}" if self.rounding else ""
        return f"{self.unit} differs by up to {self.largest:.2g}{allowed}"


@dataclass(frozen=True)
class Verdict:
    """Whether kept results stand, and why, in words; `equal` if all that was made again was."""

    stands: bool
    equal: bool
    said: str


def seed_of(fingerprint: str) -> int:
    """The seed of the drawing of a sample, for a fingerprint (hexadecimal)."""
    return int(fingerprint[:16], 16)


def drawn(units: Sequence[Unit], count: int, fingerprint: str) -> list[Unit]:
    """`count` of the units in their order, or all if there are fewer."""
    order = np.random.default_rng(seed_of(fingerprint)).permutation(len(units))
    return [units[i] for i in sorted(order[:count])]


def in_words(count: int, units: int, of: str, fingerprint: str) -> str:
    """How much was made again, with the seed that drew it."""
    return f"{min(count, units)} of {units} {of}, drawn by {seed_of(fingerprint)}"


def verdicts(samples: Mapping[str, Sequence[Pair]], figure: str = "figure") -> dict[str, Verdict]:
    """The verdict on each part of a stage's work (a method, say) by its sample.

    The interval is over the units of all parts that differ within rounding, since one part's are
    too few to tell a shift from chance; `figure` names what it is of.
    """
    out: dict[str, Verdict] = {}
    rounded: dict[str, Sequence[Pair]] = {}
    for part, pairs in samples.items():
        found = list(filter(None, (pair.beyond_rounding for pair in pairs)))
        if found or not pairs:
            out[part] = Verdict(False, False, found[0] if found else "nothing can be compared")
        elif all(pair.equal for pair in pairs):
            out[part] = Verdict(True, True, "equal")
        else:
            rounded[part] = pairs
    gaps = np.array(
        [pair.figures[1] - pair.figures[0] for p in rounded.values() for pair in p if pair.figures]
    )
    centred, interval = is_centred(gaps)
    for part, pairs in rounded.items():
        most = ", ".join(
            f"{p.unit} by {p.largest:.2g} of {p.rounding:g}" for p in pairs if not p.equal
        )
        found_there = "within rounding" if centred else "beyond rounding"
        out[part] = Verdict(
            centred, False, f"{found_there} ({most}; mean difference of {figure}: {interval})"
        )
    return {part: out[part] for part in samples}


def is_centred(gaps: np.ndarray) -> tuple[bool, str]:
    """Whether the interval of the mean difference holds zero, and the interval in words.

    Fewer than two differences have none, and show nothing.
    """
    if len(gaps) < 2:
        return not gaps.any(), f"n = {len(gaps)}, no interval"
    mean = float(gaps.mean())
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(gaps) - 1) * stats.sem(gaps))
    return (
        abs(mean) <= half,
        f"{mean:+.2g}, {LEVEL:.0%} from {mean - half:+.2g} to {mean + half:+.2g}, n = {len(gaps)}",
    )
