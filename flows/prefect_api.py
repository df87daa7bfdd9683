"""Which Prefect server a flow talks to, and what its workers run on.

With `PREFECT_API_URL` set (or a Prefect profile that names a server) that server is used. Without
one, a temporary server is started for the run and its address handed on to the worker processes,
which would otherwise each start one of their own.
"""

import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import psutil
from pydantic import Field

from foretune.errors import BadInput, extra
from foretune.running.collector import worker_started
from foretune.running.workers import without_interrupt

F = TypeVar("F", bound=Callable[..., Any])
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
RUNNERS = ("processes", "ray", "dask")
# type of flows' parameters, so that a form in Prefect's UI refuses what cannot be meant;
# descriptions are in the flows' docstrings
Share = Annotated[float, Field(ge=0)]
AWAY_SECONDS = 300.0  # that a server may take to come back, before a flow gives up
# 15 to 20 on two idle cores, most of it the first migration of the server's database
START_SECONDS = 120
# that a run may be without a server on another machine. Its heartbeats come each 30 s, and it
# counts as gone after 120 s without one, 90 s after it was cut off: it has to have given up by then
LEASE_SECONDS = 70.0
FIRST_SECONDS = 10.0  # that a server may take to answer before anything was begun
LOOK_SECONDS = 5.0  # between two looks of a lease; also how long one may take
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@contextmanager
def prefect_api() -> Iterator[str]:
    """The address of the server in use, started and stopped here if there is none. Raises
    `BadInput` for an address where no server answers.
    """
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        temporary_settings,
    )

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address := PREFECT_API_URL.value():
        check_server(str(address))
        yield address
        return
    from prefect.server.api.server import SubprocessASGIServer

    # any page of a browser, and any user of this machine, can reach its port
    login = f"foretune:{secrets.token_urlsafe(24)}"
    own = {
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_API_AUTH_STRING": login,  # for worker processes of any kind, as the address below
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
    }
    os.environ.update(own)
    try:
        with temporary_settings(
            {PREFECT_SERVER_ANALYTICS_ENABLED: False, PREFECT_API_AUTH_STRING: login}
        ):
            server = SubprocessASGIServer()
            # Ctrl-C must not end the server before the flow has said that it stops
            with without_interrupt():
                server.start(timeout=START_SECONDS)
            os.environ["PREFECT_API_URL"] = server.api_url
            try:
                with temporary_settings({PREFECT_API_URL: server.api_url}):
                    try:
                        yield server.api_url
                    finally:
                        drain()  # after an error too, or the process waits a minute for its logs
            finally:
                del os.environ["PREFECT_API_URL"]
                server.stop()
    finally:
        for name in own:
            del os.environ[name]


def check_server(address: str, seconds: float = FIRST_SECONDS) -> None:
    """Raise `BadInput` for an address where no server has answered within `seconds`."""
    import httpx

    until = time.monotonic() + seconds
    while True:
        try:
            httpx.get(f"{address}/health", timeout=seconds)
            return
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if isinstance(error, httpx.InvalidURL) or time.monotonic() > until:
                raise BadInput(
                    f"no Prefect server answers at {address} ({error}): start it, give another "
                    "address in PREFECT_API_URL, or unset that for a server of the run's own"
                ) from error
        time.sleep(0.5)


def drain() -> None:
    """Send what is left of logs and events, before the server goes."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=5)


class Lost(RuntimeError):
    """This process's flow run is another's now, or nobody can know whose it is."""


class Lease:
    """What lets this process work on its flow run: that Prefect's server says it runs, and says so
    again within `seconds`.
    """

    def __init__(self, run: str, seconds: float):
        self.run, self.seconds = run, seconds
        self.heard = time.monotonic()
        self.count: int | None = None  # starts of the run, this one included; known once heard

    def look(self) -> None:
        """Ask the server. Raises `Lost` where the run ended, or began again, without this process,
        and where the server has not answered for too long.
        """
        import httpx
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

        login = PREFECT_API_AUTH_STRING.value() or ""
        user, _, password = login.partition(":")
        try:
            answer = httpx.get(
                f"{PREFECT_API_URL.value()}/flow_runs/{self.run}",
                auth=(user, password),
                timeout=LOOK_SECONDS,
            ).raise_for_status()
        except httpx.HTTPError as error:
            silent = time.monotonic() - self.heard
            if silent > self.seconds:
                raise Lost(f"no word from Prefect's server for {silent:.0f} s ({error})") from error
            return
        self.heard = time.monotonic()
        found = answer.json()
        state = (found.get("state") or {}).get("type")
        self.count = self.count or found["run_count"]
        if state not in ("RUNNING", "CANCELLING") or found["run_count"] != self.count:
            raise Lost(f"Prefect has it as {state}, run {found['run_count']} times")


@contextmanager
def lease() -> Iterator[None]:
    """Hold the lease of a deployment's flow run, which ends this process where it is lost: another
    machine goes on with the study, and two would do everything twice.

    The process ends at once, as if the machine had failed, and with exit code 0, since its worker
    reports any other as the crash of a run that is no longer its own. A journal is whole at all
    times.
    """
    from prefect.runtime import deployment, flow_run
    from prefect.settings import PREFECT_API_URL

    if not deployment.id or flow_run.parent_flow_run_id:
        yield  # nobody else starts it again; or the run that started it holds the lease
        return
    remote = urlsplit(str(PREFECT_API_URL.value())).hostname not in LOOPBACK
    held = Lease(flow_run.id, LEASE_SECONDS if remote else AWAY_SECONDS)
    held.look()
    over = threading.Event()

    def hold() -> None:
        while not over.wait(LOOK_SECONDS):
            try:
                held.look()
            except Lost as error:
                if not over.is_set():
                    print(f"this process ends: {error}", file=sys.stderr, flush=True)
                    for child in psutil.Process().children(recursive=True):
                        with suppress(psutil.Error):
                            child.terminate()
                    os._exit(0)

    holder = threading.Thread(target=hold, name="lease", daemon=True)
    holder.start()
    try:
        yield
    finally:
        over.set()
        holder.join()  # the run's last state is still to be told


def leased(function: F) -> F:
    """A flow's function that holds the lease of its run while it works. Not the context manager as
    a decorator: its generator cannot go with the flow to a pool's processes.
    """

    @wraps(function)
    def held(*args: Any, **given: Any) -> Any:
        with lease():
            return function(*args, **given)

    return held  # type: ignore[return-value]


def write_artifact(key: str, markdown: str, about: str) -> None:
    """Put a page of markdown beside the flow run in Prefect's pages; nothing outside a run."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.runtime import flow_run

    if flow_run.id:
        # all that Prefect lets a key have
        plain = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-") or "study"
        create_markdown_artifact(markdown, key=plain, description=about)


def find_flows() -> None:
    """Let worker processes of any kind import the flows by name: a deployed flow is loaded from a
    file in a folder that is on nobody's path.
    """
    here = str(Path(__file__).resolve().parent)
    if here not in sys.path:
        sys.path.append(here)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (*paths, here) if p)


def task_runner(kind: str, workers: int, gpus: float | None = None) -> Any:
    """`workers` processes of this machine, or a Ray or Dask cluster: the one that RAY_ADDRESS or
    DASK_SCHEDULER_ADDRESS names, else one of this machine.

    `gpus` is a trial's share of a GPU; see `resources`. Raises `BadInput` for another kind, one
    that is not installed, or a share that means nothing.
    """
    find_flows()
    if gpus is not None and (kind == "processes" or gpus < 0 or (gpus > 1 and gpus != int(gpus))):
        raise BadInput(
            f"gpus={gpus} must be a trial's share of a GPU on Ray or Dask: a fraction, or a "
            "whole number above one"
        )
    if kind == "processes":
        from prefect.task_runners import ProcessPoolTaskRunner

        return ProcessPoolTaskRunner(max_workers=workers, initializer=pool_worker_started)
    with extra("serve", f"--runner {kind}"):
        if kind == "ray":
            address = os.environ.get("RAY_ADDRESS")
            # read as ray is imported; left alone, its servers listen on all of the machine's
            # addresses
            if not address:
                os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            from prefect_ray import RayTaskRunner

            if address:  # a cluster that is there; it knows its own size
                path = {"PYTHONPATH": os.environ["PYTHONPATH"]}
                return RayTaskRunner(
                    address, init_kwargs={"runtime_env": {"env_vars": path}, "log_to_driver": False}
                )
            own = {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False}
            return RayTaskRunner(init_kwargs=own)
        if kind == "dask":
            from prefect_dask import DaskTaskRunner

            if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
                return DaskTaskRunner(address=address)
            has = {"resources": {"GPU": gpus}} if gpus else {}
            here = {
                "n_workers": workers,
                "threads_per_worker": 1,
                "dashboard_address": None,
                "host": "127.0.0.1",
            }
            return DaskTaskRunner(cluster_kwargs={**here, **has})
    raise BadInput(f"--runner {kind!r} must be one of {', '.join(RUNNERS)}")


@contextmanager
def resources(kind: str, gpus: float | None) -> Iterator[None]:
    """What a task that is submitted inside needs: a processor core, and `gpus` of a GPU (default on
    Ray: one, where the cluster has any).

    Ray is asked not to repeat a task that was lost: the study does, which counts how often a trial
    was lost. Dask has its scheduler do it.
    """
    if kind == "ray":
        import ray
        from prefect_ray.context import remote_options

        share = float(bool(ray.cluster_resources().get("GPU"))) if gpus is None else gpus
        with remote_options(num_cpus=1, num_gpus=share, max_retries=0):
            yield
    elif kind == "dask" and gpus:
        import dask

        with dask.annotate(resources={"GPU": gpus}):
            yield
    else:
        yield


def lost_task(kind: str) -> tuple[type[Exception], ...]:
    """The errors that mean that a task's process or node is gone, not that the task failed;
    RuntimeError: torch's, CUDA's among them.
    """
    from concurrent.futures.process import BrokenProcessPool

    from prefect.exceptions import CrashedRun

    if kind == "ray":
        from ray.exceptions import RayError

        return CrashedRun, RuntimeError, RayError
    if kind == "dask":
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        return CrashedRun, RuntimeError, KilledWorker, CancelledError
    return CrashedRun, RuntimeError, BrokenProcessPool


def pool_worker_started() -> None:
    """What a process of Prefect's pool does first: all that a worker does, and let no task run end
    without a word.

    Where the server is away as a task run begins, Prefect 3.8.8 ends it with SystemExit, which its
    chain of futures hands on to nobody: the flow would wait for ever. Here the same place raises an
    exception, which arrives.
    """
    import prefect.engine

    def ended(code: int) -> None:
        cause = sys.exc_info()[1]
        raise RuntimeError(f"Prefect ended the task run: {cause or code}") from cause

    vars(prefect.engine)["exit"] = ended
    worker_started()


def end_if_unwanted(row: Any = None) -> None:
    """End a step on Dask that nobody waits for any more: its study has ended, by an error say, and
    a cluster that is others' too is not ended with it. Called after each epoch, since Dask ends no
    task that has begun. Raises `Lost`.
    """
    if "distributed" not in sys.modules:
        return
    from distributed import get_worker

    try:
        worker = get_worker()
        key = worker.get_current_task()
    except (ValueError, AttributeError, LookupError):
        return  # no worker of Dask's, or none of its threads
    task = worker.state.tasks.get(key)
    if task is None or task.state == "cancelled":
        raise Lost("the study that asked for this step has ended")


def server_away(error: Exception) -> bool:
    """Whether a task run could not begin because Prefect's server did not answer."""
    return isinstance(error, RuntimeError) and "Failed to reach API" in str(error)


def await_server(seconds: float = AWAY_SECONDS) -> None:
    """Wait until Prefect's server answers. Raises ConnectionError, a fault of the machine, if it
    does not.
    """
    import httpx
    from prefect.settings import PREFECT_API_URL

    address, until = f"{PREFECT_API_URL.value()}/health", time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError):
            if httpx.get(address, timeout=5).is_success:
                return
        if time.monotonic() > until:
            raise ConnectionError(
                f"Prefect's server at {PREFECT_API_URL.value()} did not answer for "
                f"{seconds:.0f} s; the next run goes on"
            )
        time.sleep(0.5)


def machine_fault(task: Any, task_run: Any, state: Any) -> bool:
    """Whether a task run failed for a reason that another try can mend: a full disk, a lost file
    system, too little memory. Not divergence.
    """
    return isinstance(state.result(raise_on_failure=False), (OSError, MemoryError))
