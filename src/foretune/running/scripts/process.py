"""A script under way: started, read from, stopped, with nothing left of it (see
`foretune.running.scripts.guard`).
"""

import math
import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from foretune.running.scripts import guard

LOG_BYTES = 2**20  # of a log file before it becomes the older one, whose own older one goes
LINE_BYTES = 2**16  # of a line; a longer one is cut there
READ_BYTES = 2**18
TAIL_LINES = 40  # last lines of the output, from which a failure is told
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY", re.IGNORECASE)
SECRET_LENGTH = 6  # shorter values would hide half of a log
HIDDEN = "***"


def secrets(environment: Mapping[str, str]) -> re.Pattern[str] | None:
    """A pattern of the values of the environment that no log may show; None where there are none."""
    values = {
        value
        for name, value in environment.items()
        if SECRET.search(name) and len(value) >= SECRET_LENGTH
    }
    ordered = sorted(values, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


class Log:
    """A text file of bounded size: `path` and the part before it, `path` with `.old` behind."""

    def __init__(self, path: Path):
        self.path = path
        self._stream = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._bytes = self._stream.tell()

    def write(self, text: str) -> None:
        """Append `text`."""
        content = text.encode("utf-8", errors="replace")
        if self._bytes + len(content) > LOG_BYTES:
            self._stream.close()
            os.replace(self.path, self.path.with_name(f"{self.path.name}.old"))
            self._stream = open(self.path, "ab")  # noqa: SIM115
            self._bytes = 0
        self._stream.write(content)
        self._bytes += len(content)

    def close(self) -> None:
        """Write what is buffered."""
        self._stream.close()


class Process:
    """A command that runs, with all that it starts.

    `arguments` as they are, no shell; `environment` is added to this process's own. What it prints
    goes to `log`, without secrets. Use it in a `with` block: at its end nothing of it is left.

    After each `lines`: `exit_code` once it has ended (minus the number of the signal that ended
    it), `refused` where it could not be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        lock: Path,
    ):
        self.exit_code: int | None = None
        self.refused: str | None = None
        self.sent = 0
        self.tail: list[str] = []
        self._hidden = secrets(os.environ)
        self._log = Log(log)
        self._rest = {"words": b"", "output": b""}
        self._open = False  # whether the last line of output may be printed over
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(lock), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except BaseException:
            self._log.close()
            raise
        self._selector = selectors.DefaultSelector()
        for stream, name in ((self._guard.stdout, "words"), (self._guard.stderr, "output")):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream.fileno(), selectors.EVENT_READ, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it at once, if it has not ended."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        while self._selector.get_map():
            self.lines(0.1)
        self._guard.wait()
        for stream in (self._guard.stdout, self._guard.stderr):
            assert stream is not None
            stream.close()
        self._selector.close()
        self._log.close()

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more, and all that it printed was read."""
        return not self._selector.get_map()

    def lines(self, timeout: float) -> list[str]:
        """What it printed since the last call, as lines; waits up to `timeout` seconds for some. A
        carriage return ends a line, too, and stays at its end: what follows is printed over it.
        """
        found: list[str] = []
        for key, _ in self._selector.select(timeout):
            if key.fd not in self._selector.get_map():
                continue
            whole, ended = self._read(key.fd, key.data)
            if key.data == "output":
                found += whole
                continue
            for word in whole:
                self._heed(word)
            if ended:  # the guard is gone, and all that could write with it
                found += self._remaining()
        if shown := [line.rstrip("\r") for line in found if line.strip()]:
            self._log.write("".join(f"{line}\n" for line in shown))
            self.tail = [*self.tail, *shown][-TAIL_LINES:]
        return found

    def members(self) -> list[int]:
        """The process ids of the command and all that it has started, as far as the system tells."""
        return guard.descendants(self._guard.pid)

    def send(self, number: signal.Signals, grace: float = math.inf) -> None:
        """Send a signal to its process group, and SIGKILL after `grace` seconds; `sent` counts the
        signals that have arrived.
        """
        assert self._guard.stdin is not None
        with suppress(OSError):
            self._guard.stdin.write(f"{int(number)} {grace}\n".encode())

    def remark(self, line: str) -> None:
        """Put a line of foretune's own into the log."""
        self._log.write(f"{line}\n")

    def _read(self, handle: int, name: str) -> tuple[list[str], bool]:
        """Lines that a stream has now, and whether it has ended."""
        try:
            content = os.read(handle, READ_BYTES)
        except BlockingIOError:
            return [], False
        if not content:
            self._selector.unregister(handle)
        return [self._shown(line) for line in self._whole(name, content)], not content

    def _remaining(self) -> list[str]:
        """What is left in the output's pipe, which is closed then."""
        assert self._guard.stderr is not None
        found: list[str] = []
        handle = self._guard.stderr.fileno()
        while handle in self._selector.get_map():
            lines, ended = self._read(handle, "output")
            found += lines
            if not ended and not self._rest["output"] and not lines:
                self._selector.unregister(handle)  # somebody holds it open whom no guard can find
        return found

    def _heed(self, word: str) -> None:
        kind, _, rest = word.partition(" ")
        if kind == "ended":
            self.exit_code = int(rest)
        elif kind == "sent":
            self.sent += 1
        elif kind == "refused":
            self.refused = rest

    def _whole(self, name: str, content: bytes) -> list[str]:
        """The whole lines that `content` brings; its end brings the rest. Empty ones are left out
        but for those that end what carriage returns have left open.
        """
        parts = re.split(rb"(\r\n|\n|\r)", self._rest[name] + content)
        self._rest[name] = parts.pop() if content else b""
        found = []
        for text, ending in zip(parts[::2], [*parts[1::2], b"\n"], strict=False):
            drawn_over = ending == b"\r"
            if text or (self._open and not drawn_over):
                found.append(text[:LINE_BYTES] + b"\r" * drawn_over)
                self._open = drawn_over
        if len(self._rest[name]) > LINE_BYTES:
            found.append(self._rest[name][:LINE_BYTES])
            self._rest[name] = b""
        return [line.decode("utf-8", errors="replace") for line in found]

    def _shown(self, line: str) -> str:
        return self._hidden.sub(HIDDEN, line) if self._hidden else line
