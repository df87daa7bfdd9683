"""The checkpoint that a script writes, watched from outside."""

import time
from dataclasses import dataclass
from pathlib import Path

from foretune.running.objectives.trial_folder import Signature, newest, signature

SETTLED_SECONDS = 0.06  # a file that did not change for so long is written


@dataclass
class CheckpointWatch:
    """The newest file or folder of `pattern` in `folder`: how often it was written since this
    object was made, and whether it is whole.
    """

    folder: Path
    pattern: str

    def __post_init__(self) -> None:
        self.path = newest(self.folder, self.pattern)
        self.signature: Signature | None = signature(self.path) if self.path else None
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
    def settled(self) -> bool:
        """Whether it has not changed for a while. An empty file is one that is being written anew, by
        a script that a busy machine keeps waiting.
        """
        if self.path is None or (self.path.is_file() and not self.path.stat().st_size):
            return False
        return time.monotonic() - self._changed >= SETTLED_SECONDS
