"""Servers, task runners and what is tried again."""

import os
import sys
from pathlib import Path

import prefect_api as module
import pytest
from prefect.states import Completed, Failed
from prefect_api import find_flows, machine_fault, prefect_api, task_runner

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
