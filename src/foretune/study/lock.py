"""One process at a time on a study's folder."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from foretune.errors import BadInput


class StudyLock:
    """Holds the lock of a study's folder, `.NAME.lock` beside it, from its making to `release`.

    Within one process a folder may be held several times over, from any thread, unless a holder
    must be the `first` one. Raises `BadInput` where another process holds it, or this one already.
    """

    # by folder; released by the last of its holders
    _locks: dict[Path, FileLock] = {}  # noqa: RUF012
    _guard = threading.RLock()

    def __init__(self, folder: Path | str, *, first: bool = False):
        try:
            folder = Path(folder).resolve()
        except (ValueError, RuntimeError, OSError) as error:  # a NUL, a link to itself
            raise BadInput(f"{str(folder)!r} can be no folder: {error}") from error
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            a_file = folder.exists() and not folder.is_dir()
        except OSError as error:
            raise BadInput(f"{folder} can hold no study: {error.strerror}") from error
        if a_file:
            raise BadInput(f"{folder} is a file: give a folder for the study")
        with self._guard:
            if folder not in self._locks:
                place = folder.with_name(f".{folder.name}.lock")
                self._locks[folder] = FileLock(place, thread_local=False)
            self._lock = self._locks[folder]
            if first and self._lock.is_locked:
                raise BadInput(
                    f"study {folder.name!r} is open in this process already: end its run or close "
                    "it first, or give another name (--study) or folder"
                )
            try:
                self._lock.acquire(timeout=0)
            except OSError as error:  # Timeout is one, where the lock cannot be waited for
                if not isinstance(error, Timeout) or not os.access(folder.parent, os.W_OK):
                    why = getattr(error, "strerror", None) or "it cannot be written to"
                    raise BadInput(f"{folder} can hold no study: {why}") from error
                raise BadInput(
                    f"study {folder.name!r} is being run by another process; wait for it, or give "
                    "another name (--study) or folder"
                ) from error
        self._holder: int | None = os.getpid()

    def release(self) -> None:
        """Let go of the folder; a second time is harmless."""
        with self._guard:
            # a forked child that ends must not open its parent's lock
            if self._holder == os.getpid():
                self._lock.release()
            self._holder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
