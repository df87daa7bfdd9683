"""Run foretune as a service on this machine: Prefect's server, MLflow's server and workers, on
loopback. `make serve`, `make stop`.

    python flows/service.py serve [--gpus N] [--prefect-port P] [--mlflow-port P] [--host HOST]
    python flows/service.py stop | status

What runs is in `.service/service.json`: a process counts as ours if it has the number *and* the
start time that are written there. All that was started, and all that these start, carry a token of
this service in their environment, so that `stop` ends exactly those, orphans of a killed worker
included.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from foretune.errors import BadInput, extra
from foretune.files import write_json

ROOT = Path(__file__).resolve().parents[1]
POOL = "gpu"
TOKEN, RUN = (
    "FORETUNE_SERVICE",
    "PREFECT__FLOW_RUN_ID",
)  # in the environment: of this service, and Prefect's of a flow run
SERVERS = ("prefect", "mlflow")
START_SECONDS, STOP_SECONDS = 300.0, 20.0
UNFINISHED = ("RUNNING", "PENDING", "CANCELLING")


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


@dataclass(frozen=True)
class Service:
    """The service of `folder` and what runs of it."""

    folder: Path
    host: str = "127.0.0.1"
    prefect_port: int = 4200
    mlflow_port: int = 5000
    token: str = ""
    deployed: str = ""  # hash of what was deployed last
    processes: tuple[Process, ...] = field(default=())

    @classmethod
    def load(cls, folder: Path) -> "Service | None":
        """What `folder` says; None where nothing was started. Raises `BadInput` for a damaged
        file.
        """
        file = folder / "service.json"
        try:
            told = json.loads(file.read_text())
            return cls(
                folder, **{**told, "processes": tuple(Process(**p) for p in told["processes"])}
            )
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(
                f"{file} is damaged ({error}); end its processes by hand, then delete it"
            ) from error

    def save(self) -> "Service":
        """Write the file."""
        told = {k: v for k, v in asdict(self).items() if k != "folder"}
        write_json(self.folder / "service.json", told)
        return self

    @property
    def prefect(self) -> str:
        """Prefect's address."""
        return f"http://{self.host}:{self.prefect_port}"

    @property
    def mlflow(self) -> str:
        """MLflow's address."""
        return f"http://{self.host}:{self.mlflow_port}"

    def runs(self, name: str) -> bool:
        """Whether a process of this name runs."""
        return any(p.name == name and p.running for p in self.processes)

    def environment(self) -> dict[str, str]:
        """What all processes of the service see; what the user's environment says comes first where
        it makes sense.
        """
        mine = {
            TOKEN: self.token,
            "PREFECT_API_URL": f"{self.prefect}/api",
            "MLFLOW_TRACKING_URI": self.mlflow,
            "PYTHONPATH": os.pathsep.join(
                p for p in (os.environ.get("PYTHONPATH"), str(ROOT / "flows")) if p
            ),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        }
        default = {
            "PREFECT_HOME": str((self.folder / "prefect").resolve()),
            "PREFECT_WORKER_QUERY_SECONDS": "5",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # for language models; three processes that this needs not
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{ROOT / 'data' / 'mlflow.db'}",
            "MLFLOW_ARTIFACTS_DESTINATION": str(ROOT / "data" / "mlartifacts"),
            "DO_NOT_TRACK": "true",
            "OMP_NUM_THREADS": "1",  # of a trial's process; trials share the cores
        }
        return {**default, **os.environ, **mine}

    def start(self, name: str, command: Sequence[str], **more: str) -> "Service":
        """Start a process of its own session, its output in `.service/NAME.log`."""
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**self.environment(), **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        made = Process(name, process.pid, psutil.Process(process.pid).create_time())
        others = tuple(p for p in self.processes if p.name != name)
        return replace(self, processes=(*others, made)).save()

    def wait(self, name: str, address: str) -> None:
        """Wait until a server answers. Raises `BadInput` with the end of its log where it
        does not.
        """
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(address, timeout=5):
                    return
            except OSError:
                pass
            if not self.runs(name) or time.monotonic() > until:
                log = self.folder / f"{name}.log"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                raise BadInput(f"{name} did not start; the end of {log}:\n{tail}")
            time.sleep(0.5)

    def ask(self, path: str, content: Any, method: str = "POST") -> Any:
        """Call Prefect's API."""
        headers = {"Content-Type": "application/json"}
        if login := os.environ.get("PREFECT_API_AUTH_STRING"):
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        body = json.dumps(content).encode()
        request = urllib.request.Request(f"{self.prefect}/api{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def set_pool(self, slots: int) -> None:
        """Make the work pool, or give it as many slots as there are workers."""
        try:
            about = "Each slot is a GPU, or this machine's processor."
            self.ask(
                "/work_pools/",
                {"name": POOL, "type": "process", "description": about, "concurrency_limit": slots},
            )
        except urllib.error.HTTPError as error:
            if error.code != 409:  # it is there
                raise
            self.ask(f"/work_pools/{POOL}", {"concurrency_limit": slots}, "PATCH")

    def crash_runs(self, states: Sequence[str]) -> int:
        """Tell Prefect which of the pool's runs in these states are no more: nobody else does, and
        each would hold its slot for ever. How many.
        """
        workers = self.ask(f"/work_pools/{POOL}/workers/filter", {})
        if any(
            w["status"] == "ONLINE" and not w["name"].startswith(worker_name("")) for w in workers
        ):
            return 0  # other machines work on the pool, and the run may be theirs
        wanted = {
            "flow_runs": {"state": {"type": {"any_": states}}},
            "work_pools": {"name": {"any_": [POOL]}},
        }
        alive = {environment(process).get(RUN) for process in self.own()}
        found = [
            run["id"] for run in self.ask("/flow_runs/filter", wanted) if run["id"] not in alive
        ]
        for run in found:
            state = {
                "type": "CRASHED",
                "name": "Crashed",
                "message": "its process is gone; run it again to go on",
            }
            self.ask(f"/flow_runs/{run}/set_state", {"state": state, "force": True})
        return len(found)

    def own(self) -> list[psutil.Process]:
        """All processes that carry this service's token."""
        return [
            p
            for p in psutil.process_iter()
            if p.pid != os.getpid() and environment(p).get(TOKEN) == self.token
        ]


def environment(process: psutil.Process) -> dict[str, str]:
    """The environment that a process was started with; empty for one that is gone, or another
    user's.
    """
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def serve(
    folder: Path, host: str, prefect_port: int, mlflow_port: int, slots: int, deployments: Path
) -> Service:
    """Start what does not run. Raises `BadInput` where a port is taken or a server does not
    start.
    """
    with extra("serve", "the service"):
        importlib.metadata.version("prefect")
    folder.mkdir(parents=True, exist_ok=True)
    before = Service.load(folder)
    service = before or Service(folder, token=secrets.token_hex(16))
    if not any(p.running for p in service.processes):
        service = replace(service, host=host, prefect_port=prefect_port, mlflow_port=mlflow_port)
    for name, port in zip(SERVERS, (service.prefect_port, service.mlflow_port), strict=True):
        if not service.runs(name):
            check_free(service.host, port, name)
    try:
        if not service.runs("prefect"):
            service = service.start(
                "prefect",
                [
                    "prefect",
                    "server",
                    "start",
                    "--host",
                    service.host,
                    "--port",
                    str(service.prefect_port),
                ],
            )
        if not service.runs("mlflow"):
            place = ["--host", service.host, "--port", str(service.mlflow_port), "--workers", "1"]
            service = service.start("mlflow", ["mlflow", "server", *place])
        service.wait("prefect", f"{service.prefect}/api/health")
        service.set_pool(slots)
        works = any(p.name not in SERVERS and p.running for p in service.processes)
        service.crash_runs(
            ("RUNNING", "CANCELLING") if works else UNFINISHED
        )  # a worker may be about to start what is pending
        service = deploy(service, deployments)
        for k in range(slots):
            if not service.runs(f"worker-{k}"):
                gpu = {"CUDA_VISIBLE_DEVICES": str(k)} if slots > 1 else {}
                named = ["--pool", POOL, "--name", worker_name(str(k)), "--limit", "1"]
                service = service.start(
                    f"worker-{k}",
                    ["prefect", "worker", "start", "--type", "process", *named],
                    **gpu,
                )
        service.wait("mlflow", f"{service.mlflow}/health")
    except (BadInput, OSError):
        if before is None:
            stop(folder)
        raise
    return service


def deploy(service: Service, deployments: Path) -> Service:
    """Create or renew the deployments, unless they are as they were. Raises `BadInput` with what
    Prefect says.
    """
    sources = [deployments, *sorted((ROOT / "flows").glob("*.py"))]
    mark = hashlib.sha256(b"\0".join(p.read_bytes() for p in sources)).hexdigest()[:16]
    if mark == service.deployed:
        return service
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        str(deployments),
    ]
    environment = {k: v for k, v in service.environment().items() if k != TOKEN}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BadInput(f"{deployments} could not be deployed:\n{tail}")
    return replace(service, deployed=mark).save()


def stop(folder: Path) -> int:
    """End what `serve` started, flow runs first; how many processes there were. Studies go on where
    they were with the next run.
    """
    service = Service.load(folder)
    if service is None:
        return 0
    everything = service.own()
    servers = {p.pid for p in service.processes if p.name in SERVERS}
    kept = {c.pid for pid in servers for c in children(pid)} | servers
    working = [p for p in everything if p.pid not in kept]
    leaders = {p.pid for p in service.processes} - servers
    end(working, [p for p in working if p.pid in leaders or runs_flow(p)])
    if service.runs("prefect"):
        try:
            service.crash_runs(UNFINISHED)
        except (OSError, ValueError) as error:
            print(
                f"Prefect did not take the end of its flow runs ({error}); the next start tells it",
                file=sys.stderr,
            )
    rest = service.own()
    end(rest, [p for p in rest if p.pid in servers])
    (folder / "service.json").unlink()
    return len(everything)


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


def check_free(host: str, port: int, name: str) -> None:
    """Raise `BadInput` where a port is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"port {port} of {host}, meant for {name}, is not free ({error.strerror}): "
                "end what uses it, or take another with "
                f'make serve SERVE="--{name}-port {port + 1}"'
            ) from error


def worker_name(number: str) -> str:
    """A worker's name in Prefect: the machine's, and a number."""
    return f"{socket.gethostname()}-{number}"


def gpus() -> int:
    """How many NVIDIA devices this machine has."""
    return sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))


def describe(service: Service) -> str:
    """Addresses, processes, and how to end it."""
    lines = [f"Prefect  {service.prefect}", f"MLflow   {service.mlflow}"]
    for p in service.processes:
        lines.append(
            f"  {p.name:<9} "
            f"{'process ' + str(p.pid) if p.running else 'is not running: make serve starts it again'}"
        )
    return "\n".join(
        [*lines, f"logs in {service.folder}; drop datasets into data/inbox; make stop ends it"]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    from filelock import FileLock, Timeout

    parser = argparse.ArgumentParser(
        prog="python flows/service.py", description="foretune as a service."
    )
    parser.add_argument("action", choices=("serve", "stop", "status"))
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".service", help="for logs and Prefect's database"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="loopback unless told otherwise: who reaches it can run code",
    )
    parser.add_argument("--prefect-port", type=int, default=4200)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument(
        "--gpus",
        type=int,
        default=max(1, gpus()),
        help="a worker each (default: all; 1 without any)",
    )
    parser.add_argument("--deployments", type=Path, default=ROOT / "prefect.yaml")
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(given.folder / ".lock", timeout=0):
            if given.action == "stop":
                ended = stop(given.folder)
                print(f"ended {ended} processes" if ended else "nothing was running")
            elif given.action == "status":
                found = Service.load(given.folder)
                print(describe(found) if found else "nothing is running; make serve starts it")
            else:
                ports = given.prefect_port, given.mlflow_port
                print(
                    describe(
                        serve(
                            given.folder, given.host, *ports, max(1, given.gpus), given.deployments
                        )
                    )
                )
    except Timeout:
        print("error: another make serve or make stop is at work; wait for it", file=sys.stderr)
        return 2
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
