"""The files for supervisors: units that systemd accepts, and a compose file whose commands are
there, which publishes on loopback alone and has no password in it.
"""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from orchestration import HEARTBEAT_SECONDS
from service import ROOT, Service

DEPLOY = ROOT / "deploy"
UNITS = {
    "foretune.service": "foretune.service",
    "foretune-worker.service": "foretune-worker@.service",
}
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_units(unit: str, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze on this machine")
    text = (DEPLOY / unit).read_text()
    # where the interpreter is here: systemd looks whether it can be executed
    python = shutil.which("python3")
    placed = tmp_path / UNITS[unit]
    placed.write_text(text.replace("/srv/foretune/.venv/bin/python", str(python)))
    done = subprocess.run([verify, "verify", placed], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if "foretune" in line]
    assert done.returncode == 0 and own == []
    broken = tmp_path / f"broken-{UNITS[unit]}"
    broken.write_text(placed.read_text().replace("ExecStart=/", "ExecStart=relative/"))
    assert subprocess.run([verify, "verify", broken], capture_output=True, check=False).returncode


def test_units_run_what_there_is() -> None:
    (command,) = re.findall("^ExecStart=(.*)$", (DEPLOY / "foretune.service").read_text(), re.M)
    assert command.split()[1:3] == ["flows/service.py", "supervise"]
    worker = (DEPLOY / "foretune-worker.service").read_text()
    assert f"PREFECT_FLOWS_HEARTBEAT_FREQUENCY={HEARTBEAT_SECONDS}" in worker


@pytest.mark.parametrize("name", [name for name in SERVICES if "command" in SERVICES[name]])
def test_commands_of_the_compose_file_are_there(name: str) -> None:
    command = " ".join(SERVICES[name]["command"])
    modules = re.findall(r"python -m (\w+)", command)
    assert modules and all(importlib.util.find_spec(module) for module in modules)


def test_what_a_container_waits_for_is_there_and_what_it_reaches_is_named() -> None:
    for about in SERVICES.values():
        for other, how in about.get("depends_on", {}).items():
            assert other in SERVICES
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
    client = SERVICES["worker"]["environment"]
    host, port = re.fullmatch(r"http://(\w+):(\d+)/api", client["PREFECT_API_URL"]).groups()  # type: ignore[union-attr]
    server = SERVICES[host]["command"]
    assert server[server.index("--port") + 1] == port and server[server.index("--name") + 1] == host
    hosts = SERVICES["mlflow"]["command"]
    allowed = hosts[hosts.index("--allowed-hosts") + 1].split(",")
    assert client["MLFLOW_TRACKING_URI"].removeprefix("http://") in allowed


def test_ports_are_published_on_loopback_and_passwords_are_not_in_the_file() -> None:
    for about in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in about.get("ports", []))
        for variable, value in about.get("environment", {}).items():
            if re.search("PASSWORD|AUTH_STRING|CONNECTION_URL|STORE_URI", variable):
                assert "${" in str(value), variable


def test_the_server_has_the_settings_that_make_serve_gives_it(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("user:password")
    ours = Service(tmp_path).server_environment()
    theirs = SERVICES["prefect"]["environment"]
    assert ours.keys() <= theirs.keys()
    for name in ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "PREFECT_UI_API_URL"):
        assert ours[name] == theirs[name]
