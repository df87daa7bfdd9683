"""Processes of this machine: known by number and start time, found by what their environment holds,
ended together.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Process:
    """A process that was started here; `created` (seconds since the epoch) tells it from a later
    one of the same number.
    """

    name: str
    pid: int
    created: float

    @property
    def running(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            found = psutil.Process(self.pid)
            alive = (
                abs(found.create_time() - self.created) < 1.0
                and found.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return None
        return found if alive else None


def environment(process: psutil.Process) -> dict[str, str]:
    """The environment that a process was started with; empty for one that is gone, or another
    user's.
    """
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def end(processes: Iterable[psutil.Process], first: Iterable[psutil.Process]) -> None:
    """Ask `first` to end, wait for all of `processes`, then kill what is left. psutil checks start
    times: a number that was given anew is not met.
    """
    for process in first:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(list(processes), timeout=STOP_SECONDS)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


def children(pid: int) -> list[psutil.Process]:
    """All descendants of a process."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def runs_flow(process: psutil.Process) -> bool:
    """Whether a process is that of a flow run."""
    try:
        return any(part in ("prefect.engine", "prefect.flow_engine") for part in process.cmdline())
    except psutil.Error:
        return False
