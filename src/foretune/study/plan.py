"""What defines a study, what a searcher suggests, and the step that becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from foretune.errors import BadInput, at_least
from foretune.space.names import refuse_reserved
from foretune.space.parameters import coerce, refuse_unencodable, whole
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

    `budget` counts epochs of training; `seconds` are of the wall-clock, from the request to the
    finished model. Each may be None for no limit, but not both. `open` studies may try
    configurations outside the pool.

    Raises `BadInput` for what is no number, text or truth value of its field; a whole number may
    come as a float or a numpy scalar.
    """

    task: str
    metric: str
    goal: str
    max_epoch: int
    budget: int | None
    method: str = "random"
    seed: int = 0
    seconds: float | None = None
    open: bool = False
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        for name in ("task", "metric", "method"):
            if not isinstance(getattr(self, name), str):
                raise BadInput(f"{name}={getattr(self, name)!r} must be a text")
            refuse_unencodable(f"the {name}", [getattr(self, name)])
        # `seconds` is what an epoch took, in the rows of trials
        refuse_reserved("metric", [self.metric], more=["seconds"])
        if self.goal not in ("maximize", "minimize"):
            raise BadInput(f"goal={self.goal!r} must be 'maximize' or 'minimize'")
        for name in ("max_epoch", "budget", "seed"):
            if name != "budget" or self.budget is not None:
                object.__setattr__(self, name, whole(name, getattr(self, name)))
        at_least(1, max_epoch=self.max_epoch)
        at_least(0, seed=self.seed)
        if self.budget is not None:
            at_least(1, budget=self.budget)
        elif self.seconds is None:
            raise BadInput("budget=None and seconds=None: a study needs a budget of one of them")
        object.__setattr__(self, "open", coerce(bool, self.open, "open"))
        if self.seconds is not None:
            where = f"seconds={self.seconds!r}"
            seconds = coerce(float, self.seconds, where, " above 0, or None for no limit")
            if not seconds > 0:
                raise BadInput(f"{where} must be positive")
            object.__setattr__(self, "seconds", seconds)

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
