"""The journal of a study: one JSON event a line, written whole and fsynced before it counts.

Each line ends with its number, counted from 1 (`n`), and the CRC-32 of all lines up to and with it
(`crc`, of their text before `, "crc"`), so that no line can be damaged, lost, doubled or moved
without being noticed. The only thing that a kill can leave is a torn last line, which never counted
and is dropped. Lines of journals that were begun before lines had numbers are read without them.

Whole lines that are cut off the end leave a journal that looks like one of before. So the end of
what was written stands beside it, in `journal.end`: the number of the last line and its checksum,
written after each line was fsynced. It is never ahead of the file, it may be behind it (it is not
fsynced itself), and a journal without one is read as it is.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from foretune.errors import BadInput, as_argument, plural
from foretune.files import sync_folder
from foretune.space.parameters import plain

Event = dict[str, Any]

SEAL = re.compile(rb', "crc": "([0-9a-f]{8})"\}')
SEAL_BYTES = 20  # of what ends a line
END = re.compile(rb'(\{"line": +(\d+), "crc": "([0-9a-f]{8})"), "check": "([0-9a-f]{8})"\}\n')


class End(NamedTuple):
    """The end of a journal: its last line's number, counted from 1, and its checksum."""

    line: int
    crc: int


class CutShort(BadInput):
    """A journal that lacks lines of its end, or is another one than that which was written."""


class Journal:
    """The file of a study's events. Read it to its end, then append to it; or read it again for
    what somebody else has written since.

    `lines` are read or written, `size` are their bytes: what stands behind them in the file is a
    torn line, or one that is being written.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.end_path = self.path.with_suffix(".end")
        self.lines = self.size = 0
        self._crc = 0  # of all lines so far
        self._end = 0  # of the file, as it was last seen
        self._unclosed = False  # whether the last line is whole but for its newline
        self._numbered = False  # whether some line had its number

    @property
    def current(self) -> bool:
        """Whether the file is as this object left it: nobody else has written to it."""
        return (self.path.stat().st_size if self.path.exists() else 0) == self._end

    def read(self) -> Iterator[tuple[int, Event]]:
        """The number and the event of each line that was not read before; nothing if there is no
        file.

        `lines` and `size` count what was yielded. Raises `BadInput` at the first line that is
        damaged, missing, doubled or out of order, unless it is torn and the last, and for a file
        that holds less than was read of it; `CutShort` at the end of one that lacks lines there.
        """
        end = self.written()  # before the file, which may grow meanwhile
        at_end: int | None = None  # the checksum at that line
        content = b""
        if self.path.exists():
            try:
                with open(self.path, "rb") as stream:
                    stream.seek(self.size)
                    content = stream.read()
            except OSError as error:  # it is a folder, or another's
                raise BadInput(f"{self.path} cannot be read: {error.strerror}") from error
        if (self.path.stat().st_size if self.path.exists() else 0) < self.size:
            raise BadInput(f"{self.path} is shorter than when it was read: read the study anew")
        self._end = self.size + len(content)
        if self._unclosed and content.startswith(b"\n"):
            content, self.size, self._unclosed = content[1:], self.size + 1, False
        before = self.lines
        *whole, last = content.split(b"\n")
        for k, line in enumerate([*whole, last] if last else whole, before + 1):
            closed = k <= before + len(whole)
            try:
                event = self._event(line, k, self._numbered)
            except ValueError as error:
                if not closed:
                    break
                if self._numbered or not torn(line):
                    raise damaged(self.path, k, str(error)) from error
                event = None  # a kill tore it before torn lines were taken off the file
            self._numbered |= event is not None and "n" in event
            self.lines, self._unclosed = k, not closed
            self.size += len(line) + closed
            if end is not None and k == end.line:
                at_end = self._crc
            if event is not None:
                event.pop("n", None)
                event.pop("crc", None)
                yield k, event
        if end is not None and end.line > self.lines:  # a torn line that counted, too
            raise cut_short(self.path, self.lines, end.line)
        if end is not None and at_end not in (None, end.crc):
            raise another(self.path, end.line)

    def written(self) -> End | None:
        """The end of what was written, as it stands beside the file; None where it is not known."""
        try:
            text = self.end_path.read_bytes()
        except OSError:
            return None
        match = END.fullmatch(text)
        if match is None or zlib.crc32(match[1]) != int(match[4], 16):
            return None
        return End(int(match[2]), int(match[3], 16))

    def mark_end(self) -> None:
        """Write down beside the file where it ends now. What cannot be written leaves the older
        end, which holds for the file as well.
        """
        body = b'{"line": %12d, "crc": "%08x"' % (self.lines, self._crc)
        # in one write of one length, over the older one
        text = b'%b, "check": "%08x"}\n' % (body, zlib.crc32(body))
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
            handle = os.open(self.end_path, flags, 0o666)
            try:
                os.write(handle, text)
            finally:
                os.close(handle)

    def append(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write events in one go and fsync them; numpy numbers become plain ones.

        Raises TypeError, before anything is written, for what JSON cannot hold, and `BadInput`
        where somebody else has written to the file since it was read.
        """
        crc, text = self._crc, "\n" if self._unclosed else ""
        for k, event in enumerate(events, self.lines + 1):
            body = f'{json.dumps(event, default=plain)[:-1]}, "n": {k}'
            crc = zlib.crc32(body.encode(), crc)
            text += f'{body}, "crc": "{crc:08x}"}}\n'
        content, new = memoryview(text.encode()), self._end == 0
        with open(self.path, "ab", buffering=0) as stream:
            handle = stream.fileno()
            if os.fstat(handle).st_size != self._end:
                raise BadInput(
                    f"{self.path} was written to by somebody else since this study was read; read "
                    "it again with Study.load"
                )
            whole = False
            try:
                if self._end > self.size:
                    stream.truncate(self.size)
                while content:
                    content = content[stream.write(content) :]
                os.fsync(handle)
                whole = True
            finally:
                # of a full disk, say: what was written does not count, and the next write cuts it
                self._end = os.fstat(handle).st_size
                if whole:
                    self.lines += len(events)
                    self.size, self._crc, self._unclosed = self._end, crc, False
        self.mark_end()
        if new:
            sync_folder(self.path.parent)

    def _event(self, line: bytes, k: int, numbered: bool) -> Event:
        """The event of line `k`, after lines of which some were `numbered`, or not. Raises
        ValueError.
        """
        line = line.removesuffix(b"\r")  # of git's or an editor's line ends: not of what is said
        line = line.removeprefix(b"\xef\xbb\xbf") if k == 1 else line
        seal = SEAL.fullmatch(line[-SEAL_BYTES:])
        crc = zlib.crc32(line[:-SEAL_BYTES] if seal else line, self._crc)
        event = json.loads(line)
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise ValueError("it is no event")
        if seal is None and (numbered or "n" in event or "crc" in event):
            raise ValueError("it lacks its number or its checksum")
        if seal is not None and event.get("n") != k:
            raise ValueError(f"its number is {event.get('n')}: lines are missing, doubled or moved")
        if seal is not None and int(seal[1], 16) != crc:
            raise ValueError("its checksum is another one: it, or a line before it, was changed")
        self._crc = crc
        return event


def journal_in(folder: Path) -> Journal:
    """The journal of a study's folder. Raises `BadInput` where it is not there."""
    path = folder / "journal.jsonl"
    if not path.exists():
        raise BadInput(
            f"{path} is missing, which holds all that the study was told: put it back, or delete "
            f"{folder} to start anew"
        )
    if not path.is_file():
        raise BadInput(f"{path} cannot be read: it is no file")
    return Journal(path)


def torn(line: bytes) -> bool:
    """Whether an old journal's line was broken off, and is not damaged otherwise: a whole line ends
    with a bracket, and what JSON misses in a part of one that does is more of it.
    """
    if not line.startswith(b"{"):
        return False
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return not line.endswith(b"}") or error.pos >= len(error.doc)
    except UnicodeDecodeError:
        return False
    return False


def damaged(path: Path, line: int, what: str) -> BadInput:
    """The error for a line that cannot be what was written."""
    return BadInput(
        f"{path}, line {line}, is damaged: {what}. {remedy(path.parent)} keeps the {line - 1} "
        "before it, and the damaged file beside them"
    )


def cut_short(path: Path, lines: int, written: int) -> CutShort:
    """The error for a journal of fewer lines than were `written`."""
    return CutShort(
        f"{path} ends with line {lines}, but {written} were written: "
        f"{plural('line', written - lines)} {lines + 1}"
        f"{f' to {written}' if written > lines + 1 else ''} "
        f"{'is' if written == lines + 1 else 'are'} missing. Put the whole file back, or "
        f"{remedy(path.parent)} goes by the {lines} that are there"
    )


def another(path: Path, line: int) -> CutShort:
    """The error for a whole journal whose `line` is not the one that was written."""
    return CutShort(
        f"{path}, line {line}, is not the one that was written: this is another journal. Put the "
        f"right one back, or {remedy(path.parent)} goes by this one"
    )


def remedy(folder: Path) -> str:
    """The command that mends a study, as a shell takes it."""
    return f"foretune doctor --repair {as_argument(folder)}"


def read_journal(path: Path | str) -> list[Event]:
    """The events of a journal, none if there is no file. Raises `BadInput` as `Journal.read`."""
    return [event for _, event in Journal(path).read()]


def finite(value: Any) -> bool:
    """Whether a told value is a finite number; None is what strict JSON writers make of NaN."""
    return value is not None and math.isfinite(value)
