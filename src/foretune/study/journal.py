"""The journal of a study: one JSON event a line, written whole and fsynced before it counts."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretune.files import append_lines
from foretune.space.parameters import plain

Event = dict[str, Any]


def append(path: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """Write events in one go; numpy numbers become plain ones. Raises TypeError, before anything is
    written, for what JSON cannot hold.
    """
    append_lines(path, [json.dumps(event, default=plain) for event in events])


def read_journal(path: Path) -> list[Event]:
    """The events of a journal, none if there is no file; lines torn by a kill are passed over."""
    if not path.exists():
        return []
    events = []
    for line in path.read_bytes().split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def finite(value: Any) -> bool:
    """Whether a told value is a finite number; None is what strict JSON writers make of NaN."""
    return value is not None and math.isfinite(value)
