"""Victims from one process that has imported everything: a fork takes a tenth of the time of a new
interpreter, of which a campaign needs hundreds.

    python -m campaign.nursery

Reads lines of JSON (`program`, `argv`, `environment`, `log`), forks a process for each, and answers
with lines of JSON: `{"pid": ...}`, and `{"pid": ..., "code": ...}` when it has ended. It opens no
database and starts no thread, so that nothing but modules is inherited.
"""

import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PROGRAMS = {"victim": "victim", "foretune": "foretune.commands.cli"}


class Nursery:
    """The process, from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "campaign.nursery"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._codes: dict[int, int] = {}
        self._born: list[int] = []
        self._news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(
        self, program: str, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> "Forked":
        """A process of one of `PROGRAMS`; `environment` is all that it has, `argv` what its `main`
        gets.
        """
        order = {
            "program": Path(program).stem,
            "argv": list(argv),
            "environment": dict(environment),
            "log": str(log),
        }
        assert self._process.stdin is not None
        with self._news:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            if not self._news.wait_for(lambda: self._born, timeout=300):
                raise TimeoutError("no process was forked for 300 s")
            return Forked(self._born.pop(), self)

    def code(self, pid: int, timeout: float | None) -> int | None:
        """The exit code of a process, once it has ended; None after `timeout` seconds."""
        with self._news:
            self._news.wait_for(lambda: pid in self._codes, timeout=timeout)
            return self._codes.get(pid)

    def close(self) -> None:
        """End it; its children are the campaign's to end."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._news:
                if "code" in told:
                    self._codes[told["pid"]] = told["code"]
                else:
                    self._born.append(told["pid"])
                self._news.notify_all()


class Forked:
    """A forked process: what a campaign needs of `psutil.Popen`."""

    def __init__(self, pid: int, nursery: Nursery):
        self.pid, self._nursery = pid, nursery
        self._process: psutil.Process | None = None
        with suppress(psutil.NoSuchProcess):  # it has ended already
            self._process = psutil.Process(pid)

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return self._nursery.code(self.pid, 0)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises psutil.TimeoutExpired."""
        code = self._nursery.code(self.pid, timeout)
        if code is None:
            raise psutil.TimeoutExpired(timeout, self.pid)
        return code

    def children(self) -> list[psutil.Process]:
        """Its child processes."""
        return self._process.children() if self._process else []

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        if self._process:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def suspend(self) -> None:
        """SIGSTOP."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.send_signal(signal.SIGCONT)


def born(order: Mapping[str, object]) -> int:
    """Fork a process and let it be a victim; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(order["environment"])  # type: ignore[call-overload]
        program = importlib.import_module(PROGRAMS[str(order["program"])])
        code = program.main(list(order["argv"]))  # type: ignore[call-overload]
    except BaseException:  # noqa: BLE001 - as an interpreter ends: told, and exit code 1
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # with the ends of threads and pools that an exit waits for, as an interpreter's has
        import atexit
        import multiprocessing.util

        multiprocessing.util._exit_function()
        atexit._run_exitfuncs()
        os._exit(code)


def main() -> None:
    """Fork on request until the campaign is gone."""
    import mlflow
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    import victim  # noqa: F401

    import foretune.history.meta_dataset  # noqa: F401

    selector, waiting = selectors.DefaultSelector(), b""
    selector.register(0, selectors.EVENT_READ)
    alive: set[int] = set()
    while True:
        if selector.select(0.02):
            more = os.read(0, 2**16)
            if not more:
                return
            *orders, waiting = (waiting + more).split(b"\n")
            for order in orders:
                alive.add(pid := born(json.loads(order)))
                print(json.dumps({"pid": pid}), flush=True)
        for pid in list(alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                alive.discard(pid)
                code = os.waitstatus_to_exitcode(status)
                print(json.dumps({"pid": pid, "code": code}), flush=True)
        time.sleep(0)


if __name__ == "__main__":
    main()
