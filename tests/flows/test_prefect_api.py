"""Servers, task runners and what is tried again."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import prefect_api as module
import pytest
from prefect.states import Completed, Failed
from prefect_api import (
    Lease,
    Lost,
    find_flows,
    lease,
    leased,
    machine_fault,
    prefect_api,
    task_runner,
)

from foretune.errors import BadInput
from foretune.training.trial import Diverged


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError("No space left on device"), True),
        (MemoryError(), True),
        (Diverged(3, "training loss is nan", []), False),
        (BadInput("unknown hyperparameter"), False),
        (ZeroDivisionError(), False),
        (None, False),
    ],
)
def test_machine_faults_are_tried_again_and_nothing_else(
    error: Exception | None, again: bool
) -> None:
    state = Completed(data=1) if error is None else Failed(data=error)
    assert machine_fault(None, None, state) is again


@pytest.mark.slow
def test_a_given_server_is_used_as_it_is(prefect_server: None) -> None:
    from prefect.settings import PREFECT_API_URL

    before = dict(os.environ)
    with prefect_api() as address:
        assert address == PREFECT_API_URL.value()
    assert os.environ.get("PREFECT_API_URL") == before.get("PREFECT_API_URL")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "http://nowhere.invalid/api"])
def test_an_address_without_a_server_is_refused_in_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tune
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(module.check_server, "__defaults__", (0.1,))
    with temporary_settings({PREFECT_API_URL: address}):
        assert tune.main(["nothing", "--data", "nowhere", "--meta", "none"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"no Prefect server answers at {address}" in said
    assert "PREFECT_API_URL" in said


def test_process_runner_has_as_many_workers_as_asked_for() -> None:
    assert task_runner("processes", 3)._max_workers == 3


def test_workers_can_import_the_flows_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    flows = str(Path(module.__file__).resolve().parent)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if os.path.abspath(p) != flows])
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    for _ in range(2):
        find_flows()
    assert (
        sys.path.count(flows) == 1 and os.environ["PYTHONPATH"] == f"/somewhere{os.pathsep}{flows}"
    )


@pytest.mark.slow
def test_a_server_that_stays_away_is_the_machines_fault(prefect_server: None) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    module.await_server(5)  # it answers
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ConnectionError, match="did not answer for 0 s; the next run goes on"),
    ):
        module.await_server(0.1)


def test_only_a_server_that_was_not_reached_lets_a_step_begin_again() -> None:
    assert module.server_away(
        RuntimeError("Prefect ended the task run: Failed to reach API at http://127.0.0.1:9/api/")
    )
    assert not module.server_away(RuntimeError("CUDA error"))


def test_unknown_runner() -> None:
    with pytest.raises(BadInput, match="must be one of processes, ray, dask"):
        task_runner("threads", 2)


@pytest.mark.parametrize("kind", ["ray", "dask"])
def test_a_runner_that_is_not_installed_names_its_extra(kind: str) -> None:
    try:
        made = task_runner(kind, 2)
    except BadInput as error:
        assert "foretune[serve]" in str(error)  # noqa: PT017  (installed or not, the call has one of two outcomes)
    else:
        assert type(made).__name__.lower().startswith(kind)


class Answer:
    """What the server says of a flow run, or that it is away."""

    def __init__(self, state: str | None, count: int = 1):
        self.state, self.count = state, count

    def __call__(self, address: str, **given: Any) -> Any:
        if self.state is None:
            raise httpx.ConnectError("No route to host")
        found = {"state": {"type": self.state}, "run_count": self.count}
        return httpx.Response(200, json=found, request=httpx.Request("GET", address))


def looked(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> Lease:
    held = Lease("r", 70.0)
    for answer in answers:
        monkeypatch.setattr(httpx, "get", answer)
        held.look()
    return held


def test_a_lease_holds_while_the_run_is_this_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    looked(monkeypatch, Answer("RUNNING", 2), Answer("RUNNING", 2), Answer("CANCELLING", 2))


@pytest.mark.parametrize(
    "later", [Answer("CRASHED"), Answer("SCHEDULED"), Answer("PENDING"), Answer("RUNNING", 2)]
)
def test_a_lease_is_lost_where_the_run_ended_or_began_again(
    monkeypatch: pytest.MonkeyPatch, later: Answer
) -> None:
    with pytest.raises(Lost, match="Prefect has it as"):
        looked(monkeypatch, Answer("RUNNING"), later)


def test_a_lease_is_lost_after_its_time_without_the_server_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = looked(monkeypatch, Answer("RUNNING"), Answer(None))
    start = held.heard
    monkeypatch.setattr(module.time, "monotonic", lambda: start + 69.0)
    held.look()
    monkeypatch.setattr(module.time, "monotonic", lambda: start + 71.0)
    with pytest.raises(Lost, match="no word from Prefect's server for 71 s"):
        held.look()
    monkeypatch.setattr(httpx, "get", Answer("RUNNING"))
    held.look()
    assert held.heard == start + 71.0


def test_a_lost_lease_ends_the_process_and_its_children_so_that_no_crash_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "d")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "r")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__PARENT_FLOW_RUN_ID", "")
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    ended: list[int] = []
    gone = threading.Event()

    def leave(code: int) -> None:
        ended.append(code)
        gone.set()

    monkeypatch.setattr(module.os, "_exit", leave)
    monkeypatch.setattr(httpx, "get", Answer("RUNNING"))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        with lease():
            assert not gone.wait(0.3)
            monkeypatch.setattr(httpx, "get", Answer("RUNNING", 2))
            assert gone.wait(30)
        assert set(ended) == {0} and child.wait(timeout=10) < 0
    finally:
        child.kill()
        child.wait()


def test_what_nobody_else_starts_again_holds_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", Answer("CRASHED"))
    with lease():
        pass


def test_a_flow_that_holds_a_lease_can_go_to_another_process() -> None:
    import cloudpickle
    from prefect import flow

    @flow
    @leased
    def asked(x: int = 3) -> int:
        """What comes in."""
        return x

    assert cloudpickle.loads(cloudpickle.dumps(asked)).fn(4) == 4
    assert asked.parameters.properties["x"]["default"] == 3


@pytest.mark.parametrize(
    "script", ["tune.py", "inbox.py", "meta_dataset.py", "meta_train.py", "service.py"]
)
def test_a_script_says_something_before_it_imports_what_takes_seconds(
    script: str, tmp_path: Path
) -> None:
    for name in ("prefect", "pydantic", "filelock", "httpx", "yaml", "psutil"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    command = [sys.executable, str(Path(module.__file__).parent / script), "--help"]
    paths = os.pathsep.join((str(tmp_path), *sys.path))
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7 and done.stderr.startswith(("starting", "looking"))
