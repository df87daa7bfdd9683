"""What a study keeps beside what it tunes: where its task, past and ranking came from, and what was
measured at its end.

Notes are JSON on disk, in `study.json` (`"notes"`) and in the journal's events `note`. Here is the
one place that knows the names of the keys; everything else reads attributes. What is not known here
is kept in `extra`, so that a study that a later or another version wrote loses nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from foretune.errors import BadInput


@dataclass(frozen=True)
class _Stored:
    """Fields to and from JSON: one that has its default is not written."""

    extra: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """From what `to_json` gave. Raises `BadInput` for what is no mapping of names, or a value
        of another shape.
        """
        if not isinstance(given, Mapping):
            raise BadInput(f"notes must be a mapping of names to values, but are {given!r}")
        readers = {f.name: f.metadata["read"] for f in fields(cls) if f.name != "extra"}
        known: dict[str, Any] = {}
        for name, read in readers.items():
            value = given.get(name)
            try:
                known |= {} if value is None else {name: read(value)}
            except (ValueError, TypeError) as error:
                raise BadInput(f"note {name!r} cannot be {value!r}: {error}") from error
        return cls(**known, extra={k: v for k, v in given.items() if k not in readers})

    def to_json(self) -> dict[str, Any]:
        """Plain values by name, the unknown ones among them."""
        blank = type(self)()
        known = {
            f.name: as_json(getattr(self, f.name))
            for f in fields(self)
            if f.name != "extra" and getattr(self, f.name) != getattr(blank, f.name)
        }
        return {**known, **self.extra}


def as_json(value: Any) -> Any:
    """A note's value as JSON has it."""
    if isinstance(value, _Stored):
        return value.to_json()
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def stored(read: Any, default: Any = None) -> Any:
    """A field of notes: how it is made from JSON, and what it is where nothing, or null, was
    noted.
    """
    metadata = {"read": read}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _mapping(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError("a mapping of names to values was expected")
    return dict(given)


def _numbers(given: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in _mapping(given).items()}


def _floats(given: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in given)


def _ints(given: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in given)


def _names(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        raise TypeError("a list of names was expected")
    return tuple(str(name) for name in given)


@dataclass(frozen=True)
class RankingNote(_Stored):
    """What a recommender said about a study's pool before the study began.

    `order`: configuration ids, best first (None: the past tasks' mean rank is the ranking);
    `scores` of configurations 0, 1, ... (None: minus the place in the order); `images`: what the
    images add to the forecast of configurations 0, 1, ..., in the metric's unit; `leans`: past task
    -> its share in the list; `nearest`: past task -> weight; `known_as`: the past task with the
    very same images; `supported`: whether any past task looks like this one; `own_studies`: past
    tasks that are the user's own studies.
    """

    recommender: str | None = stored(str)
    supported: bool = stored(bool, default=True)
    known_as: str | None = stored(str)
    own_studies: tuple[str, ...] = stored(_names, default=())
    nearest: Mapping[str, float] = stored(_numbers, default={})
    leans: Mapping[str, float] = stored(_numbers, default={})
    order: tuple[int, ...] | None = stored(_ints)
    scores: tuple[float, ...] | None = stored(_floats)
    images: tuple[float, ...] | None = stored(_floats)


def _ranking(given: Any) -> RankingNote:
    return RankingNote.from_json(given)


@dataclass(frozen=True)
class Notes(_Stored):
    """The notes of a study.

    `task_hash`: of the images; `options`: of the method; `settings`: of all trials; `space`: its
    name or file; `meta`: the meta-dataset's name (None: there was none); `past`: tasks that were
    history at its start; `runs`: digest of the runs of other spaces and settings that were (None:
    there were none); `anchors`: configuration ids that are trained first; `recommended`: the
    ranking that the method takes; `tested`: configuration and epoch that `test_accuracy` is of;
    `baseline`: which comparison this study is; `base`: what all rates of a learning-rate search
    share.
    """

    task_hash: str | None = stored(str)
    options: Mapping[str, Any] = stored(_mapping, default={})
    settings: Mapping[str, Any] = stored(_mapping, default={})
    space: str | None = stored(str)
    meta: str | None = stored(str)
    past: tuple[str, ...] = stored(_names, default=())
    runs: str | None = stored(str)
    anchors: tuple[int, ...] = stored(_ints, default=())
    recommended: RankingNote | None = field(default=None, metadata={"read": _ranking})
    tested: tuple[int, int] | None = stored(_ints)
    test_accuracy: float | None = stored(float)
    baseline: str | None = stored(str)
    base: Mapping[str, Any] = stored(_mapping, default={})

    def __post_init__(self) -> None:
        if self.tested is not None and len(self.tested) != 2:
            raise BadInput(f"tested={list(self.tested)} must be a configuration and an epoch")

    def noting(self, facts: Mapping[str, Any]) -> "Notes":
        """With the JSON values `facts` beside or in place of what was noted. Raises `BadInput`."""
        new = Notes.from_json(facts)
        known = {f.name for f in fields(self)} - {"extra"}
        return replace(
            self,
            **{name: getattr(new, name) for name in facts if name in known},
            extra={**self.extra, **new.extra},
        )


def notes_of(file: Path) -> Notes:
    """The notes that a study was started with, from its `study.json`. Raises `BadInput` for a file
    that is damaged or not there.
    """
    try:
        return Notes.from_json(json.loads(file.read_text(encoding="utf-8"))["notes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
