"""Writing files so that a reader sees the old content or the new one, never a part of it."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foretune.errors import BadInput


@contextmanager
def replace(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it, rename it over `path` and fsync
    their folder, on an error delete it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp's 0600 would hide the file from others of the same group
        os.chmod(temporary, 0o666 & ~umask)
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path | str, content: bytes | str) -> None:
    """Write `content` to `path` by rename."""
    with replace(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, by rename."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    if any("\ud800" <= character <= "\udfff" for character in text):
        # of a file's name that is no UTF-8; JSON's escapes hold it, and are read back as it was
        text = json.dumps(value, indent=1)
    write_atomic(path, f"{text}\n")


def check_folder(folder: Path, what: str, *files: str) -> None:
    """Raise `BadInput` now where a folder could not be made, or written to, when there is something
    to write: a file stands in its way, or folders in those of `files`. `what` names it.
    """
    try:
        there = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
        if not there.is_dir():
            shown = "it" if there == folder else there
            raise BadInput(f"{what} {folder} cannot be a folder: {shown} is a file")
        if not os.access(there, os.W_OK):
            raise BadInput(f"{what} {folder}: {there} cannot be written to")
        for name in files:
            if (folder / name).is_dir():
                raise BadInput(f"{what} {folder}: {name} in it is a folder, and a file is needed")
    except (ValueError, OSError) as error:  # a NUL, a name too long, a link to itself
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{what} {str(folder)!r} can be no folder: {error}") from error


def sync_folder(folder: Path | str) -> None:
    """Fsync a folder: only then do the names in it, new or renamed, outlast a power cut."""
    if os.name != "posix":  # others open no folder, and order renames themselves
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_lines(path: Path | str, lines: list[str]) -> None:
    """Append whole lines to `path` in one write and fsync it.

    A line torn by an earlier kill is closed first, so that it cannot swallow the new ones.
    """
    with open(path, "ab+") as stream:
        torn = b""
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            torn = b"" if stream.read(1) == b"\n" else b"\n"
        stream.write(torn + "".join(f"{line}\n" for line in lines).encode())
        stream.flush()
        os.fsync(stream.fileno())
