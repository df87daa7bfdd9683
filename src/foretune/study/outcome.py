"""What a step gave."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a step gave: a row per new epoch, and why the trial failed in the epoch after them, if
    it did.
    """

    rows: list[Row]
    failed: str | None = None
