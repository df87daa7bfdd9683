"""Run foretune as a service on this machine: Prefect's server, MLflow's server and workers, on
loopback. `make serve`, `make stop`.

    python flows/service.py serve [--gpus N] [--prefect-port P] [--mlflow-port P] [--host HOST]
    python flows/service.py stop | status | supervise

What runs is in `.service/service.json`: a process counts as ours if it has the number *and* the
start time that are written there. All that was started, and all that these start, carry a token of
this service in their environment, so that `stop` ends exactly those, orphans of a killed worker
included. What ends is started again within seconds, by a supervisor that `serve` leaves behind. The
login of Prefect's API is in `.service/login`, for this user's eyes alone; processes get it by
environment.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

if __name__ == "__main__":
    # what follows takes seconds to import on a busy machine
    print("looking at what runs", file=sys.stderr, flush=True)
    if importlib.util.find_spec("httpx") is None:
        sys.exit("error: the service needs packages of an extra: pip install 'foretune[serve]'")

import httpx
import psutil
from orchestration import HEARTBEAT_SECONDS, POOL, RUNNING, UNFINISHED, Api
from prefect_server import ANY, LOOPBACK, hosts, names, origins
from processes import Process, children, end, environment, runs_flow

from foretune.errors import BadInput, extra
from foretune.files import write_json

ROOT = Path(__file__).resolve().parents[1]
# in the environment: of this service, and Prefect's of a flow run
TOKEN, RUN = "FORETUNE_SERVICE", "PREFECT__FLOW_RUN_ID"
# where a user's own login is looked for, "user:password"
LOGIN = "PREFECT_SERVER_API_AUTH_STRING"
SERVERS = ("prefect", "mlflow")
SUPERVISOR = "supervisor"  # starts again what ends: Prefect's worker can, after a flow run's death
START_SECONDS = 300.0
SUPERVISE_SECONDS = 5.0  # between two looks at what runs
MLFLOW_AUTH = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{database}
admin_username = {user}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class Service:
    """The service of `folder` and what runs of it."""

    folder: Path
    host: str = "127.0.0.1"
    prefect_port: int = 4200
    mlflow_port: int = 5000
    token: str = ""
    deployed: str = ""  # hash of what was deployed last
    names: tuple[str, ...] = ()  # by which others reach the servers, beside the host's own
    processes: tuple[Process, ...] = field(default=())

    @classmethod
    def load(cls, folder: Path) -> "Service | None":
        """What `folder` says; None where nothing was started. Raises `BadInput` for a damaged
        file.
        """
        file = folder / "service.json"
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            told["names"] = tuple(told.get("names", ()))
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
    def reached(self) -> str:
        """The name or address by which this machine reaches its own servers."""
        host = "127.0.0.1" if self.host in ANY else self.host
        return f"[{host}]" if ":" in host else host

    @property
    def prefect(self) -> str:
        """Prefect's address."""
        return f"http://{self.reached}:{self.prefect_port}"

    @property
    def mlflow(self) -> str:
        """MLflow's address."""
        return f"http://{self.reached}:{self.mlflow_port}"

    @property
    def open(self) -> bool:
        """Whether other machines reach the servers."""
        return self.host not in LOOPBACK

    @property
    def login(self) -> str:
        """The login of the servers, "user:password". Raises `BadInput` where it is not kept."""
        file = self.folder / "login"
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadInput(
                f"{file}, the login of Prefect's API, cannot be read ({error.strerror}); put "
                "there the user:password that the server was started with"
            ) from error

    @property
    def api(self) -> Api:
        """Prefect's API."""
        return Api(f"{self.prefect}/api", self.login)

    def runs(self, name: str) -> bool:
        """Whether a process of this name runs."""
        return any(p.name == name and p.running for p in self.processes)

    def environment(self) -> dict[str, str]:
        """What all processes of the service see; what the user's environment says comes first where
        it makes sense. No login: each process gets those that it needs.
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
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # for language models; three processes that this needs not
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{ROOT / 'data' / 'mlflow.db'}",
            "MLFLOW_ARTIFACTS_DESTINATION": str(ROOT / "data" / "mlartifacts"),
            "DO_NOT_TRACK": "true",
            "OMP_NUM_THREADS": "1",  # of a trial's process; trials share the cores
        }
        own = {k: v for k, v in os.environ.items() if k != LOGIN}
        return {**default, **own, **mine}

    def client_environment(self) -> dict[str, str]:
        """What a worker and its flow runs see beside that: the login of Prefect's API, and of
        MLflow where it has one.
        """
        user, _, password = self.login.partition(":")
        mlflow = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
        return {"PREFECT_API_AUTH_STRING": self.login, **(mlflow if self.open else {})}

    def server_environment(self) -> dict[str, str]:
        """What Prefect's server sees beside that: its login, its own pages as the only origin, and
        tokens against forged requests.
        """
        own = names(self.host, self.names)
        return {
            LOGIN: self.login,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins(own, self.prefect_port)),
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_UI_API_URL": "/api",  # the page's own server, by whatever name it was reached
        }

    def mlflow_command(self) -> tuple[list[str], dict[str, str]]:
        """How MLflow's server is started: module and arguments, and what its environment has beside
        `environment`. Raises `BadInput` where other machines would reach it without a login.
        """
        own = names(self.host, self.names)
        command = ["mlflow", "server", "--host", self.host, "--port", str(self.mlflow_port)]
        command += ["--workers", "1", "--allowed-hosts", ",".join(hosts(own, self.mlflow_port))]
        command += ["--cors-allowed-origins", ",".join(origins(own, self.mlflow_port))]
        if not self.open:
            return command, {}
        if importlib.util.find_spec("flask_wtf") is None:
            raise BadInput(
                f"--host {self.host}: MLflow's login needs a package: pip install 'mlflow[auth]'"
            )
        user, _, password = self.login.partition(":")
        # the login may have changed since MLflow last ran, and it keeps its own copy
        database = (self.folder / "mlflow_users.db").resolve()
        database.unlink(missing_ok=True)
        settings = (self.folder / "mlflow_auth.ini").resolve()
        settings.write_text(MLFLOW_AUTH.format(database=database, user=user), encoding="utf-8")
        return [*command, "--app-name", "basic-auth"], {
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        }

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
        with httpx.Client(timeout=5, trust_env=False) as client:
            while True:
                try:
                    if client.get(address).is_success:
                        return
                except httpx.HTTPError:
                    pass
                if not self.runs(name) or time.monotonic() > until:
                    log = self.folder / f"{name}.log"
                    tail = "\n".join(
                        log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
                    )
                    raise BadInput(f"{name} did not start; the end of {log}:\n{tail}")
                time.sleep(0.5)

    def crash_runs(self, states: Sequence[str]) -> int:
        """Tell Prefect which of the pool's runs in these states are no more, at once rather than
        after two minutes without a heartbeat. How many.
        """
        if self.api.other_workers(worker_name("")):
            return 0  # other machines work on the pool, and the run may be theirs
        alive = {environment(process).get(RUN) for process in self.own()}
        found = [run["id"] for run in self.api.runs(states) if run["id"] not in alive]
        for run in found:
            self.api.crash(run)
        return len(found)

    def own(self) -> list[psutil.Process]:
        """All processes that carry this service's token."""
        return [
            p
            for p in psutil.process_iter()
            if p.pid != os.getpid() and environment(p).get(TOKEN) == self.token
        ]


def keep_login(folder: Path, host: str) -> None:
    """Write the login that Prefect's server shall ask for to `folder`/login, for this user's eyes
    alone: the user's own, else the one of last time, else a random one.

    Raises `BadInput` for a login that is none, and where other machines reach the server and the
    user has not set one: a random one on this machine's disk lets nobody else in.
    """
    file, given = folder / "login", os.environ.get(LOGIN, "")
    user, _, password = given.partition(":")
    if given and not (user and len(password) >= 12 and given.isprintable()):
        raise BadInput(f"{LOGIN} must be user:password, the password of 12 characters or more")
    if host not in LOOPBACK and not given:
        raise BadInput(
            f"--host {host}: other machines would reach Prefect, whose login is the right to run "
            f"code here, so choose one first: export {LOGIN}=user:password"
        )
    if not given and file.exists():
        file.chmod(0o600)
        return
    temporary = folder / f".login.{os.getpid()}"
    with open(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as stream:
        stream.write(f"{given or 'foretune:' + secrets.token_urlsafe(24)}\n")
    os.replace(temporary, file)


def serve(
    folder: Path,
    host: str,
    prefect_port: int,
    mlflow_port: int,
    slots: int,
    deployments: Path,
    also: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Service:
    """Start what does not run, telling each step to `say`; `also`: other names of this machine.
    Raises `BadInput` where a port is taken, a server does not start, or the network would reach it
    without a login.
    """
    with extra("serve", "the service"):
        importlib.metadata.version("prefect")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # the login, Prefect's database, the logs of studies
    before = Service.load(folder)
    service = before or Service(folder, token=secrets.token_hex(16))
    if not any(p.running for p in service.processes):
        service = replace(
            service,
            host=host,
            prefect_port=prefect_port,
            mlflow_port=mlflow_port,
            names=tuple(also),
        )
    for name, port in zip(SERVERS, (service.prefect_port, service.mlflow_port), strict=True):
        if not service.runs(name):
            check_free(service.host, port, name)
    if not service.runs("prefect"):
        keep_login(folder, service.host)
    try:
        if not service.runs("mlflow"):
            command, more = service.mlflow_command()
            say(f"starting MLflow at {service.mlflow}")
            service = service.start("mlflow", command, **more)
        if not service.runs("prefect"):
            say(f"starting Prefect at {service.prefect}: a minute, the first time")
            place = ["--host", service.host, "--port", str(service.prefect_port)]
            called = [part for name in service.names for part in ("--name", name)]
            service = service.start(
                "prefect", ["prefect_server", *place, *called], **service.server_environment()
            )
        service.wait("prefect", f"{service.prefect}/api/health")
        there = service.api.slots()
        if there is None or not service.open:  # or the workers of other machines are counted in it
            service.api.set_pool(max(slots, 1))
        service.api.set_automations(renew=fingerprint(deployments) != service.deployed)
        works = any(p.name not in (*SERVERS, SUPERVISOR) and p.running for p in service.processes)
        # a worker may be about to start what is pending
        service.crash_runs(RUNNING if works else UNFINISHED)
        service = deploy(service, deployments, say)
        for k in range(slots):
            if not service.runs(f"worker-{k}"):
                say(f"starting worker {k}")
                gpu = {"CUDA_VISIBLE_DEVICES": str(k)} if slots > 1 else {}
                named = ["--pool", POOL, "--name", worker_name(str(k)), "--limit", "1"]
                service = service.start(
                    f"worker-{k}",
                    ["prefect", "worker", "start", "--type", "process", *named],
                    **gpu,
                    **service.client_environment(),
                )
        service.wait("mlflow", f"{service.mlflow}/health")
    except (BadInput, OSError, httpx.HTTPError):
        if before is None:
            stop(folder)
        raise
    return service


def fingerprint(deployments: Path) -> str:
    """Of the deployments, and of all that their flows and automations are made from."""
    sources = [deployments, *sorted((ROOT / "flows").glob("*.py"))]
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in sources)).hexdigest()[:16]


def deploy(
    service: Service, deployments: Path, say: Callable[[str], None] = lambda line: None
) -> Service:
    """Create or renew the deployments, unless they are as they were. Raises `BadInput` with what
    Prefect says.
    """
    mark = fingerprint(deployments)
    if mark == service.deployed:
        return service
    say(f"deploying the flows of {deployments.name}")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    told = {**service.environment(), **service.client_environment()}
    done = subprocess.run(
        [*command, "--prefect-file", str(deployments)],
        cwd=ROOT,
        env={k: v for k, v in told.items() if k != TOKEN},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BadInput(f"{deployments} could not be deployed:\n{tail}")
    return replace(service, deployed=mark).save()


def stop(folder: Path) -> int:
    """End what `serve` started, flow runs first; how many processes there were. Runs of `tune` go
    on by themselves with the next start, datasets of the inbox with the next watch.
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
        except (BadInput, httpx.HTTPError) as error:
            print(
                f"Prefect did not take the end of its flow runs ({error}); the next start tells it",
                file=sys.stderr,
            )
    rest = service.own()
    end(rest, [p for p in rest if p.pid in servers])
    (folder / "service.json").unlink()
    return len(everything)


def supervise(
    folder: Path, begin: Callable[[], Service], say: Callable[[str], None], stopped: threading.Event
) -> None:
    """Start the service, and again whatever of it ends, until `stopped` is set, or `make stop` has
    ended it; then end all.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=START_SECONDS)
    with lock:
        expected = {p.name for p in begin().processes}
    say("watching over it")
    while not stopped.wait(SUPERVISE_SECONDS):
        try:
            with lock.acquire(timeout=0):
                service = Service.load(folder)
                if service is None:
                    say("make stop ended it")
                    return
                if lost := sorted(name for name in expected if not service.runs(name)):
                    say(f"{', '.join(lost)} ended: starting again")
                    begin()
        except Timeout:  # make serve or make stop is at work
            continue
        except (BadInput, httpx.HTTPError, OSError) as error:
            say(f"not started again ({error}); tried again in {SUPERVISE_SECONDS:.0f} s")
    try:
        with lock.acquire(timeout=0):
            say(f"ended {stop(folder)} processes")
    except Timeout:
        say("make stop ends it")


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
    lines = [
        f"Prefect  {service.prefect}  (its page asks for the login in {service.folder / 'login'})",
        f"MLflow   {service.mlflow}",
    ]
    for p in service.processes:
        lines.append(
            f"  {p.name:<10} "
            f"{'process ' + str(p.pid) if p.running else 'is not running: make serve starts it again'}"
        )
    return "\n".join(
        [*lines, f"logs in {service.folder}; drop datasets into data/inbox; make stop ends it"]
    )


def supervising(given: argparse.Namespace) -> list[str]:
    """The arguments that watch over what `serve` was given, from any folder."""
    return [
        "supervise",
        *("--folder", str(given.folder.resolve())),
        *("--host", given.host),
        *(part for name in given.name for part in ("--name", name)),
        *("--prefect-port", str(given.prefect_port)),
        *("--mlflow-port", str(given.mlflow_port)),
        *("--gpus", str(given.gpus)),
        *("--deployments", str(given.deployments.resolve())),
    ]


def say(line: str) -> None:
    """Tell a step at once, through a pipe too."""
    print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    from filelock import FileLock, Timeout

    parser = argparse.ArgumentParser(
        prog="python flows/service.py", description="foretune as a service."
    )
    parser.add_argument(
        "action",
        choices=("serve", "stop", "status", "supervise"),
        help="supervise: serve in the foreground, and start again what ends",
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".service", help="for logs and Prefect's database"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="loopback unless told otherwise: who reaches it and has the login can run code",
    )
    parser.add_argument(
        "--name", action="append", default=[], help="another name of this machine in the network"
    )
    parser.add_argument("--prefect-port", type=int, default=4200)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument(
        "--gpus",
        type=int,
        default=max(1, gpus()),
        help="a worker each (default: all; 1 without any); 0: servers alone",
    )
    parser.add_argument("--deployments", type=Path, default=ROOT / "prefect.yaml")
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)

    def begin() -> Service:
        return serve(
            given.folder,
            given.host,
            given.prefect_port,
            given.mlflow_port,
            max(0, given.gpus),
            given.deployments,
            given.name,
            say,
        )

    try:
        if given.action == "supervise":
            stopped = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stopped.set())
            supervise(given.folder, begin, say, stopped)
            return 0
        with FileLock(given.folder / ".lock", timeout=0):
            if given.action == "stop":
                if Service.load(given.folder):
                    say("ending flow runs, workers and servers")
                ended = stop(given.folder)
                print(f"ended {ended} processes" if ended else "nothing was running")
            elif given.action == "status":
                found = Service.load(given.folder)
                print(describe(found) if found else "nothing is running; make serve starts it")
            else:
                service = begin()
                if not service.runs(SUPERVISOR):
                    service = service.start(SUPERVISOR, ["service", *supervising(given)])
                print(describe(service))
    except Timeout:
        print("error: another make serve or make stop is at work; wait for it", file=sys.stderr)
        return 2
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except httpx.HTTPError as error:
        print(f"error: Prefect's server does not answer as it should: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
