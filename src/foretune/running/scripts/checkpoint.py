"""The checkpoint that a script writes, watched from outside."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foretune.running.objectives.trial_folder import Signature, newest, signature
from foretune.running.scripts.file_formats import is_whole, open_for_writing

# Stillness alone proves nothing: a busy machine keeps a script waiting in the middle of a file.
SETTLED_SECONDS = 0.06  # a file that did not change for so long may be written
FOLDER_SECONDS = 0.5  # the same of a folder, whose next file may not have been begun
OPEN_SECONDS = 5.0  # a file that stays open, and of which nothing is known, is written by then


@dataclass
class CheckpointWatch:
    """The newest file or folder of `pattern` in `folder`: how often it was written since this
    object was made, and whether it is whole. `processes` are those that may write it.
    """

    folder: Path
    pattern: str
    processes: Callable[[], list[int]] = list

    def __post_init__(self) -> None:
        self.path = newest(self.folder, self.pattern)
        self.signature: Signature | None = signature(self.path) if self.path else None
        self._written: tuple[Path, Signature | None] | None = None  # what was found settled
        self._changed = 0.0
        self.versions = 0

    def look(self) -> None:
        """Look again. Writing again within the time that it takes a file to settle is one."""
        path = newest(self.folder, self.pattern)
        now = signature(path) if path else None
        if now == self.signature and path == self.path:
            return
        moment = time.monotonic()
        # a folder changes with each file in it, and is a new version as a new folder
        new = path != self.path or (
            path is not None and path.is_file() and moment - self._changed > SETTLED_SECONDS
        )
        self.versions += new
        self.path, self.signature, self._changed = path, now, moment

    @property
    def broken(self) -> bool:
        """Whether it lacks something of what its format asks for, or is empty."""
        if self.path is None:
            return False
        if not self.path.is_dir():
            return not self.signature or not self.signature[1] or is_whole(self.path) is False
        files = [path for path in self.path.rglob("*") if path.is_file()]
        return not files or any(is_whole(path) is False for path in files)

    @property
    def settled(self) -> bool:
        """Whether it is written: it has not changed for a while, and is whole by its format, or
        nobody has it open to write to it where its format says nothing.
        """
        if self.path is None:
            return False
        if self._written == (self.path, self.signature):
            return True
        quiet = time.monotonic() - self._changed
        least = FOLDER_SECONDS if self.path.is_dir() else SETTLED_SECONDS
        if quiet < least or self.broken:
            return False
        proved = not self.path.is_dir() and is_whole(self.path)
        if not proved and quiet < OPEN_SECONDS and open_for_writing(self.path, self.processes()):
            return False
        self._written = self.path, self.signature
        return True
