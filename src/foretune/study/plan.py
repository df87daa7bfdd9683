"""What defines a study, and the step that a searcher asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from foretune.errors import BadInput
from foretune.study.notes import Notes


@dataclass(frozen=True)
class Step:
    """Take configuration `config_id` from epoch `start` (so many are done) to epoch `stop`;
    `because` says why and by which past tasks.
    """

    config_id: int
    start: int
    stop: int
    because: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs that this step costs."""
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """What defines a study and never changes, except that a budget may be raised when it is
    continued.

    `budget` counts epochs of training; `seconds` of wall-clock, None for no limit. `open` studies
    may try configurations outside the pool.
    """

    task: str
    metric: str
    goal: str
    max_epoch: int
    budget: int
    method: str = "random"
    seed: int = 0
    seconds: float | None = None
    open: bool = False
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        if self.goal not in ("maximize", "minimize"):
            raise BadInput(f"goal={self.goal!r} must be 'maximize' or 'minimize'")
        if self.max_epoch < 1:
            raise BadInput(f"max_epoch={self.max_epoch} must be at least 1")
        if self.budget < 1:
            raise BadInput(f"budget={self.budget} must be at least 1 epoch")
        if self.seconds is not None and not self.seconds > 0:
            raise BadInput(f"seconds={self.seconds} must be positive")
        if self.seed < 0:
            raise BadInput(f"seed={self.seed} must be 0 or more")

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """From what `to_json` gave. Raises `BadInput` for a value that is none, TypeError for a
        field missing or unknown.
        """
        return cls(**{**given, "notes": Notes.from_json(given.get("notes") or {})})

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "notes": self.notes.to_json()
        }

    @property
    def sign(self) -> float:
        """Multiplier that makes the metric higher-is-better."""
        return 1.0 if self.goal == "maximize" else -1.0
