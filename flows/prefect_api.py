"""Which Prefect server a flow talks to, and what its workers run on.

With `PREFECT_API_URL` set (or a Prefect profile that names a server) that server is used. Without one, a temporary server is started for the
run and its address handed on to the worker processes, which would otherwise each start one of their own.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from foretune.collect import worker_started
from foretune.errors import BadInput
from foretune.searchers.registry import METHODS
from foretune.workers import without_interrupt

QUIET = {"DO_NOT_TRACK": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
RUNNERS = ("processes", "ray", "dask")
# types of flows' parameters, so that a form in Prefect's UI refuses what cannot be meant; descriptions are in the flows' docstrings
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Method = Annotated[str, Field(json_schema_extra={"enum": list(METHODS)})]
START_SECONDS = 120  # 15 to 20 on two idle cores, most of it the first migration of the server's database


@contextmanager
def prefect_api() -> Iterator[str]:
    """The address of the server in use, started and stopped here if there is none."""
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address := PREFECT_API_URL.value():
        yield address
        return
    from prefect.server.api.server import SubprocessASGIServer

    with temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}):
        server = SubprocessASGIServer()
        with without_interrupt():  # Ctrl-C must not end the server before the flow has said that it stops
            server.start(timeout=START_SECONDS)
        os.environ["PREFECT_API_URL"] = server.api_url  # for worker processes of any kind
        try:
            with temporary_settings({PREFECT_API_URL: server.api_url}):
                yield server.api_url
                drain()
        finally:
            del os.environ["PREFECT_API_URL"]
            server.stop()


def drain() -> None:
    """Send what is left of logs and events, before the server goes."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=5)


def find_flows() -> None:
    """Let worker processes of any kind import the flows by name: a deployed flow is loaded from a file in a folder that is on nobody's path."""
    here = str(Path(__file__).resolve().parent)
    if here not in sys.path:
        sys.path.append(here)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (*paths, here) if p)


def task_runner(kind: str, workers: int) -> Any:
    """`workers` processes of this machine, or a Ray or Dask cluster. Raises `BadInput` for another kind, or one that is not installed."""
    find_flows()
    if kind == "processes":
        from prefect.task_runners import ProcessPoolTaskRunner

        return ProcessPoolTaskRunner(max_workers=workers, initializer=worker_started)
    try:
        if kind == "ray":
            from prefect_ray import RayTaskRunner

            if os.environ.get("RAY_ADDRESS"):  # a cluster that is there; it knows its own size
                return RayTaskRunner()
            return RayTaskRunner(init_kwargs={"num_cpus": workers})
        if kind == "dask":
            from prefect_dask import DaskTaskRunner

            if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
                return DaskTaskRunner(address=address)
            return DaskTaskRunner(
                cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
            )
    except ImportError as error:
        raise BadInput(f"--runner {kind} needs an extra: pip install 'foretune[{kind}]'") from error
    raise BadInput(f"--runner {kind!r} must be one of {', '.join(RUNNERS)}")


def machine_fault(task: Any, task_run: Any, state: Any) -> bool:
    """Whether a task run failed for a reason that another try can mend: a full disk, a lost file system, too little memory. Not divergence."""
    return isinstance(state.result(raise_on_failure=False), (OSError, MemoryError))
