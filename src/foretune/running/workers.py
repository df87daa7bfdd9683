"""Where steps run: worker processes that report every epoch, or this process.

Each worker of `Processes` is a spawned process (threads would share torch's random numbers) on a
pipe of its own, so that one that is killed, whatever it was doing, takes no lock and no other
worker with it. A worker says that it is ready, then sends `Row` after each epoch and `Ended` after
the step; one that dies gives `Died`. One that dies before it is ready says nothing of any
configuration: the script, an import or the machine's memory is at fault, and the run stops.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import current_process, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import numpy as np
import psutil

from foretune.errors import BadInput
from foretune.study.outcome import Outcome
from foretune.study.study import Step

STOP_SECONDS = 5.0  # that a worker may take to end when it is asked to
# exit code of a worker whose import of the user's script began to tune again
UNGUARDED = 78
STARTS = (
    3  # of a worker that a signal ends before it is ready; the machine may be full for a moment
)


@dataclass(frozen=True)
class Row:
    """An epoch of `step` is done."""

    step: Step
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """`step` is done, or has failed for `outcome.failed`."""

    step: Step
    outcome: Outcome


@dataclass(frozen=True)
class Died:
    """The process that ran `step` is gone: killed, out of memory, a crash in native code."""

    step: Step
    reason: str


Event = Row | Ended | Died


class Objective(Protocol):
    """What a worker runs (see `foretune.study.outcome`)."""

    def run(
        self, config_id: int, config: Mapping[str, Any], start: int, stop: int, on_epoch: Any = None
    ) -> Outcome: ...


class Workers(Protocol):
    """Where steps run: `Processes` or `InProcess` here, Prefect's in `flows/tune.py`."""

    @property
    def free(self) -> int: ...

    def submit(self, step: Step, config: Mapping[str, Any]) -> None: ...

    def events(self, timeout: float) -> Sequence[Event]: ...

    def close(self) -> None: ...


def serve(connection: Connection, objective: Objective) -> None:
    """Run steps from `connection` until it closes (the body of a worker process)."""
    # Ctrl-C is for the parent, which decides what stops
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        try:
            # imports and data that every step needs: where they fail, no configuration is at fault
            if (prepare := getattr(objective, "prepare", None)) is not None:
                prepare()
        except (ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
            connection.send(("unfit", f"{type(error).__name__}: {error}"))
            return
        connection.send(("ready", None))
        while True:
            config_id, config, start, stop = connection.recv()
            try:
                outcome = objective.run(
                    config_id,
                    config,
                    start,
                    stop,
                    on_epoch=lambda row: connection.send(("row", row)),
                )
            except BadInput as error:  # a configuration that cannot be trained is a failed trial
                outcome = Outcome([], str(error))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except OSError as error:  # a full disk, a lost file system: no fault of the trial
                connection.send(("fault", error))
                continue
            connection.send(("ended", outcome))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        return


def end_where_main_is_imported() -> None:
    """End a worker process that is still importing the user's script, which would start workers of
    its own; `Processes.events` says so in the process that started it.
    """
    if getattr(current_process(), "_inheriting", False):
        sys.exit(UNGUARDED)


def end_with_parent() -> None:
    """End this process at once when its parent is gone: an epoch under way must not write beside
    the run that takes it up again.
    """
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def end_processes(processes: Sequence[Any]) -> None:
    """End child processes: asked to, and killed `STOP_SECONDS` later where that is not heard, as by
    one that is stopped or stuck in native code.
    """
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


class Processes:
    """`count` worker processes, started when first needed and started anew when one dies."""

    def __init__(self, objective: Objective, count: int):
        self.objective, self.count = objective, count
        self._context = get_context("spawn")
        self._idle: list[tuple[Any, Connection]] = []
        self._busy: dict[Connection, tuple[Any, Step]] = {}
        self._order: dict[Connection, tuple[Any, ...]] = {}  # what a busy worker was sent
        self._ready: set[Connection] = set()
        self._stillborn = 0  # workers that ended before they were ready, in a row
        # (clock, CPU seconds) of the busy workers as their epoch began, and the sums of all epochs
        self._began: dict[Connection, tuple[float, float]] = {}
        self._trained = np.zeros(2)

    @property
    def free(self) -> int:
        """Steps that can be submitted now."""
        return self.count - len(self._busy)

    @property
    def places(self) -> dict[int, str]:
        """Trial -> the process that runs its step."""
        return {step.config_id: f"process {p.pid}" for p, step in self._busy.values()}

    @property
    def share(self) -> float | None:
        """CPU seconds of the workers for each of the clock in which they trained; None before the
        first epoch.
        """
        clock, cpu = self._trained
        return float(cpu / clock) if clock > 0 else None

    def _used(self, connection: Connection, ended: bool) -> None:
        """Count what a worker used for its last epoch, if one has `ended`; another begins."""
        process, _ = self._busy[connection]
        before = self._began.pop(connection, None)
        with suppress(psutil.Error):
            times = psutil.Process(process.pid).cpu_times()
            now = time.monotonic(), times.user + times.system
            if before is not None and ended:
                self._trained += np.subtract(now, before)
            self._began[connection] = now

    def submit(self, step: Step, config: Mapping[str, Any]) -> None:
        """Give a step to a free worker."""
        process, connection = self._idle.pop() if self._idle else self._start()
        self._busy[connection] = (process, step)
        self._order[connection] = (step.config_id, dict(config), step.start, step.stop)
        if connection in self._ready:
            self._used(connection, ended=False)
        with suppress(OSError):  # it died while idle; `events` reports it as the death it is
            connection.send(self._order[connection])

    def events(self, timeout: float) -> list[Event]:
        """What happened; waits up to `timeout` seconds for the first event. Raises the OSError that
        a worker met: the machine's fault, not the trial's; `BadInput` where workers end before they
        are ready.
        """
        out: list[Event] = []
        for ready in wait(list(self._busy), timeout):
            assert isinstance(ready, Connection)
            process, step = self._busy[ready]
            try:
                kind, value = ready.recv()
            except (EOFError, OSError) as error:
                del self._busy[ready]
                self._began.pop(ready, None)
                ready.close()
                process.join()
                if process.exitcode == UNGUARDED:
                    raise BadInput(
                        "worker processes import the script that called foretune.tune, and it "
                        'calls it again: put the call under if __name__ == "__main__":'
                    ) from error
                order = self._order.pop(ready)
                if ready not in self._ready:
                    self._start_again(process.exitcode, step, order)
                    continue
                self._ready.discard(ready)
                out.append(
                    Died(step, f"its worker process ended with exit code {process.exitcode}")
                )
                continue
            if kind in ("ready", "row"):
                self._used(ready, ended=kind == "row")
            if kind == "ready":
                self._ready.add(ready)
                self._stillborn = 0
                continue
            if kind == "unfit":
                raise BadInput(
                    f"worker processes cannot begin: {value}; no trial has failed for it, and the "
                    "same call continues the study"
                )
            if kind == "fault":
                raise value
            if kind == "row":
                out.append(Row(step, value))
            else:
                del self._busy[ready]
                self._idle.append((process, ready))
                out.append(Ended(step, value))
        return out

    def close(self) -> None:
        """End all workers at once; a step under way is taken up again from its last checkpoint
        another time.
        """
        everyone = self._idle + [
            (process, connection) for connection, (process, _) in self._busy.items()
        ]
        for _, connection in everyone:
            connection.close()
        end_processes([process for process, _ in everyone])
        self._idle, self._busy, self._order, self._ready = [], {}, {}, set()
        self._began = {}

    def _start_again(self, exit_code: int, step: Step, order: tuple[Any, ...]) -> None:
        """Give `step` to a new worker after one that ended before it was ready. Raises `BadInput`
        for one that ended by itself, or `STARTS` in a row.
        """
        self._stillborn += 1
        if exit_code >= 0 or self._stillborn >= STARTS:
            cause = (
                "its own error stands above; does the script import what is there, and call "
                'foretune under if __name__ == "__main__":?'
                if exit_code >= 0
                else f"{STARTS} in a row were killed; is there memory for {self.count} of them?"
            )
            raise BadInput(
                f"worker processes end before their first step, with exit code {exit_code} "
                f"({cause}); no trial has failed for it, and the same call continues the study"
            )
        self.submit(step, order[1])

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self.objective), daemon=True)
        with without_interrupt():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe
        return process, ours


class InProcess:
    """Runs steps in this process, one after another."""

    free = 1

    def __init__(self, objective: Objective):
        self.objective = objective
        self._step: tuple[Step, Mapping[str, Any]] | None = None

    def submit(self, step: Step, config: Mapping[str, Any]) -> None:
        """Take a step; it runs when its events are asked for."""
        self._step, self.free = (step, config), 0

    def events(self, timeout: float) -> list[Event]:
        """Run the step to its end: a row per epoch, then its end."""
        if self._step is None:
            return []
        step, config = self._step
        rows: list[Event] = []
        outcome = self.objective.run(
            step.config_id, config, step.start, step.stop, lambda row: rows.append(Row(step, row))
        )
        self._step, self.free = None, 1
        return [*rows, Ended(step, outcome)]

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back: a process started meanwhile never gets it, not even before its own code
    runs; this one gets it afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # started with the first process otherwise, and it lets Ctrl-C through again
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
