"""What defines a study, what a searcher suggests, and the step that becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from foretune.errors import BadInput, at_least
from foretune.space.space import Config
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


# a known configuration's id, or a configuration that the study does not know yet
Choice = int | Config


@dataclass(frozen=True)
class Suggestion:
    """What a searcher suggests: take `config`, the id of a known configuration or, in an open
    study, a new one, from epoch `start` to epoch `stop`; `because` as in `Step`.

    `adopt` are other configurations that an open study should take into its pool with it, in this
    order and before `config`. Nothing of it is in the study before `Study.ask` records it.
    """

    config: Choice
    start: int
    stop: int
    because: Mapping[str, Any] = field(default_factory=dict)
    adopt: tuple[Config, ...] = ()


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
        at_least(1, max_epoch=self.max_epoch, budget=self.budget)
        at_least(0, seed=self.seed)
        if self.seconds is not None and not self.seconds > 0:
            raise BadInput(f"seconds={self.seconds} must be positive")

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
