"""Who works on a study now, and how to ask for its end.

A run says in `running.json`, in its study's folder, which process it is and where its steps are. A
file `stop` beside it asks the run to stop, as Ctrl-C does: it is looked for between the events of
the workers, so at least each half second, and in one process after each step.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from foretune.errors import BadInput
from foretune.files import write_json

RUNNING, STOP = "running.json", "stop"
EVERY = 5.0  # seconds between signs of life
LOST = 60.0  # without one, a run on another machine counts as gone


class StopRequested(KeyboardInterrupt):
    """Somebody asked for the end of the run: the same as Ctrl-C to whoever runs it."""


@dataclass(frozen=True)
class Running:
    """A run at work: its machine and process, when that process and this run began, and its last
    sign of life (seconds of the wall clock). `places`: trial -> where its step runs.
    """

    host: str
    process: int
    process_began: float
    since: float
    at: float
    places: Mapping[int, str]

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as can be told from this machine."""
        if self.host != socket.gethostname():
            return time.time() - self.at < LOST
        try:
            began = psutil.Process(self.process).create_time()
        except psutil.Error:
            return False
        return abs(began - self.process_began) < 1.0  # else the number is another process's now


class Presence:
    """Says that this process runs the study in `folder` (None: says nothing), until it is left.

    What asked an earlier run to stop is forgotten.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._since = time.time()
        self._shown: Mapping[int, str] | None = None
        self._at = -EVERY

    def __enter__(self) -> Self:
        if self.folder is not None:
            (self.folder / STOP).unlink(missing_ok=True)
        return self

    def __call__(self, places: Mapping[int, str]) -> None:
        """Say where steps run. Raises `StopRequested` where the end of the run was asked for."""
        if self.folder is None:
            return
        if (self.folder / STOP).exists():
            raise StopRequested
        now = time.monotonic()
        if places == self._shown and now - self._at < EVERY:
            return
        self._shown, self._at = dict(places), now
        me = Running(
            socket.gethostname(),
            os.getpid(),
            psutil.Process().create_time(),
            self._since,
            time.time(),
            self._shown,
        )
        write_json(self.folder / RUNNING, asdict(me))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.folder is not None:
            for name in (RUNNING, STOP):
                (self.folder / name).unlink(missing_ok=True)


def running(folder: Path) -> Running | None:
    """The run that works on the study in `folder`; None where none does, or it was killed."""
    try:
        given = json.loads((folder / RUNNING).read_text(encoding="utf-8"))
        places = {int(i): str(where) for i, where in given.pop("places").items()}
        found = Running(**given, places=places)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None  # not there, or of another version
    return found if found.alive else None


def request_stop(folder: Path) -> None:
    """Ask the run that works on the study in `folder` to stop. Raises `BadInput` if none does."""
    if running(folder) is None:
        raise BadInput(f"nobody works on study {folder.name!r} now: there is nothing to stop")
    (folder / STOP).touch()
