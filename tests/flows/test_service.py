"""The service: its parts alone, and then on real servers a scheduled watch that trains, logs and
registers.
"""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import service as module
import yaml
from PIL import Image
from service import Process, Service, check_free, deploy, end, serve, stop

from foretune.errors import BadInput

from .conftest import TINY

DEPLOYMENTS = yaml.safe_load((module.ROOT / "prefect.yaml").read_text())["deployments"]
PATIENCE = 400.0  # seconds; 60 on a quiet machine


def test_a_number_that_was_given_anew_is_not_ours() -> None:
    me = psutil.Process()
    assert Process("x", me.pid, me.create_time()).running == me
    assert Process("x", me.pid, me.create_time() - 100).running is None
    assert Process("x", 2**22 + 1, 0.0).running is None


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            BadInput,
            match=rf'port {port} .* mlflow, is not free .* SERVE="--mlflow-port {port + 1}"',
        ):
            check_free("127.0.0.1", port, "mlflow")
        with pytest.raises(BadInput, match="meant for prefect"):
            serve(tmp_path / "s", "127.0.0.1", port, port, 1, Path("prefect.yaml"))
    assert not (tmp_path / "s" / "service.json").exists()


def test_stop_ends_what_carries_the_token_and_nothing_else(tmp_path: Path) -> None:
    service = Service(tmp_path, token="t1")
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    other = subprocess.Popen(sleep, env={**os.environ, module.TOKEN: "t2"})
    orphan = subprocess.Popen(sleep, env={**os.environ, module.TOKEN: "t1"})
    started = subprocess.Popen(
        sleep, env={**os.environ, module.TOKEN: "t1"}, start_new_session=True
    )
    created = psutil.Process(started.pid).create_time()
    service = Service(
        tmp_path, token="t1", processes=(Process("worker-0", started.pid, created),)
    ).save()
    assert Service.load(tmp_path) == service
    try:
        module.STOP_SECONDS, before = 2.0, module.STOP_SECONDS
        assert stop(tmp_path) == 2 and stop(tmp_path) == 0
        assert started.poll() is not None and orphan.poll() is not None and other.poll() is None
    finally:
        module.STOP_SECONDS = before
        end([], [psutil.Process(other.pid)])
        other.wait()


def test_nothing_to_stop_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action, said in [
        ("status", "nothing is running; make serve starts it"),
        ("stop", "nothing was running"),
    ]:
        assert module.main([action, "--folder", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"{said}\n"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text('{"processes": [{"pid": 1}]}')
    with pytest.raises(BadInput, match="is damaged"):
        Service.load(tmp_path)


def test_the_environment_sends_nothing_home_and_stays_on_loopback(tmp_path: Path) -> None:
    found = Service(tmp_path, token="t").environment()
    assert (
        found["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
        and found["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    )
    assert found["DO_NOT_TRACK"] == found["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert found["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_deployments_describe_every_parameter_and_set_only_those_that_fit(
    deployment: dict[str, Any],
) -> None:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema
    from prefect.utilities.schema_tools import validate

    flow = load_flow_from_entrypoint(str(module.ROOT / deployment["entrypoint"]))
    schema = parameter_schema(flow).model_dump_for_openapi()
    assert flow.name == deployment["name"] and deployment["work_pool"] == {"name": module.POOL}
    assert [k for k, v in schema["properties"].items() if not v.get("description")] == []
    given = {**dict.fromkeys(schema.get("required", []), "x"), **deployment.get("parameters", {})}
    validate(given, schema, raise_on_error=True)
    if "method" in schema["properties"]:
        assert validate({**given, "method": "hyperban"}, schema) and not validate(
            {**given, "method": "hyperband"}, schema
        )
    if "budget" in schema["properties"]:
        assert validate({**given, "budget": 0}, schema)


# -- on real servers
# -------------------------------------------------------------------------------------------------------------------------
def free_ports() -> tuple[int, int]:
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


def dropped(folder: Path) -> None:
    """An archive of two classes that can be told apart, and a folder that is no task."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for k, name in enumerate(("dark", "bright")):
            for i in range(12):
                stream = io.BytesIO()
                pixels = rng.integers(0, 100, (16, 16, 3)) + 120 * k
                Image.fromarray(pixels.astype(np.uint8)).save(stream, format="PNG")
                archive.writestr(f"photos/{name}/{i}.png", stream.getvalue())
    (folder / "bad" / "only").mkdir(parents=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A service of its own with the watch deployed on a short schedule, and the folder of its
    data.
    """
    folder = tmp_path_factory.mktemp("service")
    dropped(folder / "inbox")
    (watch,) = [d for d in DEPLOYMENTS if d["name"] == "inbox"]
    given = {
        "inbox": str(folder / "inbox"),
        "data": str(folder / "data"),
        "quiet": 1,
        "budget": 4,
        "method": "random",
        "meta": "none",
    }
    watch = {
        **watch,
        "parameters": {**given, "workers": 1, "settings": TINY},
        "schedules": [{"interval": 15}],
    }
    (folder / "prefect.yaml").write_text(yaml.safe_dump({"name": "test", "deployments": [watch]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_ARTIFACTS_DESTINATION", str(folder / "artifacts"))
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            patch.delenv(name, raising=False)
        try:
            yield (
                serve(folder / ".service", "127.0.0.1", *free_ports(), 1, folder / "prefect.yaml"),
                folder,
            )
        finally:
            stop(folder / ".service")


def wait_for(path: Path, folder: Path) -> str:
    until = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.5)
    log = folder / ".service" / "worker-0.log"
    assert path.exists(), log.read_text()[-5000:] if log.exists() else "no worker"
    return path.read_text()


@pytest.mark.slow
def test_a_scheduled_watch_trains_on_a_worker_and_its_curves_are_in_mlflow(
    running: tuple[Service, Path],
) -> None:
    import mlflow
    import pandas as pd

    from foretune.training.export import load

    service, folder = running
    told = wait_for(folder / "inbox" / "done" / "photos.txt", folder)
    assert "registered model photos" in told
    assert "has 1 class folder" in wait_for(folder / "inbox" / "failed" / "bad.txt", folder)
    curves = pd.read_parquet(folder / "data" / "studies" / "photos" / "curves.parquet")
    client = mlflow.MlflowClient(service.mlflow, registry_uri=service.mlflow)
    experiment = client.get_experiment_by_name("foretune/photos")
    runs = client.search_runs([experiment.experiment_id])
    trials = {
        int(r.data.tags["foretune.trial"]): r.info.run_id
        for r in runs
        if "foretune.trial" in r.data.tags
    }
    assert len(trials) == 2 and len(runs) == 3
    for trial, run in trials.items():
        logged = {m.step: m.value for m in client.get_metric_history(run, "valid_accuracy")}
        rows = curves[curves.config_id == trial]
        assert logged == pytest.approx(
            dict(zip(rows.epoch, rows.valid_accuracy, strict=True))
        ) and set(logged) == {
            1,
            2,
        }
        assert len(client.get_metric_history(run, "valid_accuracy")) == 2
    (version,) = client.search_model_versions("name = 'photos'")
    files = Path(
        client.download_artifacts(version.run_id, version.source.rpartition("/")[2], str(folder))
    )
    assert load(files / "best.pt")[1]["classes"] == ["bright", "dark"]
    found = service.ask(
        "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    )
    assert any(run["auto_scheduled"] and run["work_pool_name"] == "gpu" for run in found)
    found = service.ask(
        "/flow_runs/filter",
        {"flow_runs": {"state": {"name": {"any_": ["AwaitingConcurrencySlot"]}}}},
    )
    assert not found, "a watch that comes due during another is cancelled, not queued up"


@pytest.mark.slow
def test_everything_listens_on_loopback_alone(running: tuple[Service, Path]) -> None:
    service, _ = running
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for process in service.own()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {service.prefect_port, service.mlflow_port} <= {port for _, port in listening}
    assert {address for address, _ in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.slow
def test_serving_twice_starts_only_what_is_missing(running: tuple[Service, Path]) -> None:
    service, folder = running
    given = (
        folder / ".service",
        service.host,
        service.prefect_port,
        service.mlflow_port,
        1,
        folder / "prefect.yaml",
    )
    assert serve(*given) == service
    (worker,) = [p for p in service.processes if p.name == "worker-0"]
    os.kill(worker.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(worker.pid)] if worker.running else [], timeout=10)
    lost = service.ask("/deployments/filter", {})[0]["id"]
    lost = service.ask(f"/deployments/{lost}/create_flow_run", {"state": {"type": "SCHEDULED"}})[
        "id"
    ]
    # and no process has it
    service.ask(f"/flow_runs/{lost}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    again = serve(*given)
    assert service.ask(f"/flow_runs/{lost}", None, "GET")["state"]["type"] == "CRASHED"
    assert again.runs("worker-0") and set(service.processes) - set(again.processes) == {worker}
    assert json.loads((folder / ".service" / "service.json").read_text())["token"] == service.token


@pytest.mark.slow
def test_stop_ends_everything_and_frees_the_ports(running: tuple[Service, Path]) -> None:
    service, folder = running
    assert stop(folder / ".service") >= 3
    assert service.own() == []
    check_free(service.host, service.prefect_port, "prefect")
    check_free(service.host, service.mlflow_port, "mlflow")
    (folder / "broken.yaml").write_text("deployments: []")
    with pytest.raises(BadInput, match="could not be deployed"):
        deploy(service, folder / "broken.yaml")
