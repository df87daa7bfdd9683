"""The processes that harm is done to: a study, servers, a disk; and a look at what is left."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from campaign.nursery import Forked, Nursery

PATIENCE = 900.0  # seconds without any progress, after which a study has not survived
GONE_SECONDS = 30.0  # that processes may take to end after what they belong to
TOKEN = "FORETUNE_FAULTS"  # in the environment of all that a campaign starts
DISK_BYTES = 32 * 2**20
BENCH = Path(__file__).resolve().parents[1]


class Victim:
    """The study in a folder as a process, started anew as often as needed.

    `seen` are the values that were ever found in its journal.
    """

    def __init__(
        self,
        folder: Path,
        aside: Path,
        command: Sequence[str],
        environment: dict[str, str],
        nursery: Nursery | None = None,
    ):
        self.folder, self.command, self.environment = folder, list(command), environment
        self.log = aside / f"{folder.name}.log"
        self.seen: dict[tuple[int, int], float] = {}
        self.nursery = nursery
        self.process: psutil.Popen | Forked | None = None

    def start(self) -> "psutil.Popen | Forked":
        """Start it, or leave it if it runs."""
        if self.process is None or self.process.poll() is not None:
            self.process = self.another(self.log)
        return self.process

    def another(self, log: Path) -> "psutil.Popen | Forked":
        """A process of the same command, whatever runs."""
        if self.nursery is not None:
            return self.nursery.start(*self.command[1:2], self.command[2:], self.environment, log)
        with open(log, "wb") as stream:
            return psutil.Popen(self.command, stderr=stream, stdout=stream, env=self.environment)

    @property
    def running(self) -> bool:
        """Whether its last process runs."""
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        """What its last process wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace").strip()

    @property
    def journal(self) -> Path:
        """The file that grows as epochs are told."""
        return self.folder / "journal.jsonl"

    def told(self) -> int:
        """Epochs in the journal."""
        content = self.journal.read_bytes() if self.journal.exists() else b""
        return content.count(b'"event": "epoch"')

    def progress(self, count: int) -> bool:
        """Wait until `count` more epochs are told; False if the process ends before."""
        process = self.start()
        for _ in range(count):
            before, until = self.told(), time.monotonic() + PATIENCE
            while self.told() <= before:
                if process.poll() is not None:
                    return False
                if time.monotonic() > until:
                    raise TimeoutError(f"no progress for {PATIENCE:.0f} s")
                time.sleep(0.005)
        return True

    def workers(self) -> list[psutil.Process]:
        """The processes that run trials."""
        assert self.process is not None
        try:
            return [p for p in self.process.children() if "spawn_main" in " ".join(p.cmdline())]
        except psutil.Error:
            return []

    def stop(self, how: signal.Signals) -> None:
        """Send a signal, and see the process and all its workers end."""
        assert self.process is not None
        workers = self.workers()
        with suppress(psutil.NoSuchProcess):
            self.process.send_signal(how)
        self.process.wait(timeout=PATIENCE)
        gone(workers)

    def end(self) -> None:
        """Kill it and all its workers at once, as a power cut does."""
        if self.running:
            assert self.process is not None
            workers = self.workers()
            self.process.kill()
            for worker in workers:
                kill(worker)
            self.process.wait()
            gone(workers)


class Server:
    """A server of a campaign on loopback, Prefect's or MLflow's."""

    def __init__(self, kind: str, folder: Path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{port}"
        self.process: psutil.Popen | None = None
        self.environment = {
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_URL": f"{self.uri}/api",
        }
        place = ["--backend-store-uri", database(folder), "--artifacts-destination", str(folder)]
        command = ["prefect", "server", "start", "--no-services"]
        if kind == "mlflow":
            command = ["mlflow", "server", *place, "--workers", "1"]
        self.command = [sys.executable, "-m", *command, "--port", str(port)]
        self.health = f"{self.uri}/health" if kind == "mlflow" else f"{self.uri}/api/health"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with open(self.folder / "server.log", "ab") as log:
            environment = {**os.environ, **self.environment}
            self.process = psutil.Popen(
                self.command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        until = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(self.health, timeout=5).close()
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def signal(self, how: signal.Signals) -> None:
        """Send a signal to it and all that it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)

    def kill(self) -> None:
        """End it and all that it started."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


def database(folder: Path) -> str:
    """MLflow's database in a folder."""
    return f"sqlite:///{folder}/mlflow.db"


def kill(process: psutil.Process) -> None:
    """End a process that may be gone already."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


def gone(processes: Iterable[psutil.Process]) -> None:
    """See processes end. Raises `RuntimeError` for one that outlives what it belongs to."""
    _, alive = psutil.wait_procs(list(processes), timeout=GONE_SECONDS)
    if alive:
        raise RuntimeError(f"{len(alive)} workers still ran after {GONE_SECONDS:.0f} s")


def marked() -> str:
    """A token for the environment of one study's processes."""
    return secrets.token_hex(8)


def left(token: str) -> list[psutil.Process]:
    """Processes with this token that do not end by themselves in time; they are killed then."""
    _, alive = psutil.wait_procs(carrying(token), timeout=GONE_SECONDS)
    for process in alive:
        kill(process)
    psutil.wait_procs(alive, timeout=GONE_SECONDS)
    return alive


def carrying(token: str) -> list[psutil.Process]:
    """All processes with this token, but this one and those that are dead and not yet fetched."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mine = process.environ().get(TOKEN) == token and process.pid != os.getpid()
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def stops(
    victim: Victim, message: str, harm: Callable[[], object] = lambda: None, code: int = 2
) -> None:
    """Do harm until the study has stopped, which has to be with exit code `code` and one line that
    says why. Raises `RuntimeError` where it is not.
    """
    process, until = victim.start(), time.monotonic() + PATIENCE
    while process.poll() is None:
        harm()
        if time.monotonic() > until:
            raise TimeoutError(f"it did not stop on: {message}")
        time.sleep(0.01)
    said(victim.said(), process.returncode, message, code)


def said(text: str, code: int, message: str, right: int = 2) -> None:
    """Raise `RuntimeError` unless a process ended with the exit code that is right and one line of
    error that holds `message`.
    """
    lines = [line for line in text.splitlines() if line.startswith(("error: ", "foretune "))]
    if code != right or len(lines) != 1 or message not in lines[0] or "Traceback" in text:
        raise RuntimeError(f"exit code {code} on {message!r}: {text[-200:]}")


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing happened for {seconds:.0f} s")
        time.sleep(0.005)


# -- a small disk of one's own, in a namespace


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with open(path, "ab", buffering=0) as filler:
        try:
            while filler.write(bytes(2**16)):
                pass
        except OSError:
            return


def mount(*arguments: str, command: str = "mount", check: bool = True) -> bool:
    """Run mount or umount; whether it succeeded."""
    return subprocess.run([command, *arguments], check=check, capture_output=True).returncode == 0
