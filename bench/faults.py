"""Do harm to a study at random moments and count what it cost.

Survived, epochs repeated, epochs lost, points that MLflow has twice or not at all.

    python bench/faults.py [--kills 100] [--kinds worker,flow,...] [--seed 0]
        [--out data/reports/faults.csv]

Trials sleep instead of training (`bench/victim.py`), so that processor cores do not limit, and
write down each epoch that they really execute. Two workers.

| kind         | what happens                                                                      |
|--------------|-----------------------------------------------------------------------------------|
| `study`      | SIGKILL for the process that tunes; its workers end by themselves                 |
| `worker`     | SIGKILL for the older of the processes that run trials; the study goes on         |
| `machine`    | SIGKILL for the tuning process and all its workers, at once                       |
| `flow`       | SIGKILL for a Prefect flow that runs the study, its steps as task runs            |
| `prefect`    | SIGKILL for the Prefect server of such a flow; started again after up to two      |
|              | seconds                                                                           |
| `mlflow`     | SIGKILL for the MLflow server that the study logs to; started again after up to   |
|              | two seconds                                                                       |
| `disk`       | the disk of the study, and of MLflow's database, is full; the study is to stop    |
|              | with a clear line; then there is room again                                       |
| `readonly`   | the study's folder becomes read-only; the same                                    |
| `checkpoint` | the machine is killed, and the newest checkpoint is cut short or has a bit turned |
|              | over                                                                              |
| `parquet`    | the study is stopped, and one of its tables is cut short                          |
| `clock`      | the wall clock goes back by an hour under a running study                         |
| `memory`     | a trial runs out of memory, in a process with a limit                             |

Each fourth kill of the kinds `study`, `machine` and `mlflow` comes while things start, the others
after the study has made progress. A study that ends before its share of harm is done is followed by
another. Each study is a line of the CSV file as soon as it is over, and the same command goes on
from there; the table is over all lines. Exit code 1 if an epoch was lost, a point logged twice or
missing, or a study did not survive. An epoch that is repeated is one that was in flight, at most
one a worker and kill, or one whose checkpoint was damaged. `disk` and `readonly` mount a small disk
of their own in a namespace (`unshare`, Linux).
"""

import argparse
import csv
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil
import victim as harmed

from foretune.history.meta_dataset import MetaDataset
from foretune.views.tracking import Tracker

PATIENCE = 300.0  # seconds without any progress, after which a study has not survived
EARLY = ("study", "machine", "mlflow")
FLOWS, MOUNTED = ("flow", "prefect"), ("disk", "readonly")
KINDS = (
    "study",
    "worker",
    "machine",
    *FLOWS,
    "mlflow",
    *MOUNTED,
    "checkpoint",
    "parquet",
    "clock",
    "memory",
)
DISK_BYTES = 32 * 2**20


@dataclass
class Count:
    """A study, or the sum of several: a line of the CSV file."""

    kind: str
    seed: int = 0
    study: int = 0
    kills: int = 0
    survived: int = 0
    epochs: int = 0
    repeated: int = 0
    lost: int = 0
    twice: int = 0
    missing: int = 0
    trouble: str = ""

    @property
    def bad(self) -> bool:
        """Whether anything was lost, doubled or did not survive."""
        return bool(self.survived < self.kills or self.lost or self.twice or self.missing)


class Victim:
    """The study in a folder as a process, started anew as often as needed.

    `seen` are the epochs that were ever found in its journal.
    """

    def __init__(self, folder: Path, aside: Path, uri: str, kind: str, environment: dict[str, str]):
        self.folder, self.uri, self.environment = folder, uri, environment
        self.log, self.executed = aside / f"{folder.name}.log", aside / f"{folder.name}.executed"
        self.options = ["--flow"] * (kind in FLOWS) + ["--sealed"] * (kind == "checkpoint")
        folder.mkdir(parents=True)
        self.seen: set[tuple[int, int]] = set()
        self.process: psutil.Popen | None = None

    def start(self) -> psutil.Popen:
        """Start it, or leave it if it runs."""
        if self.process is None or self.process.poll() is not None:
            command = [
                sys.executable,
                harmed.__file__,
                str(self.folder),
                self.uri,
                str(self.executed),
                *self.options,
            ]
            with open(self.log, "wb") as log:
                self.process = psutil.Popen(command, stderr=log, stdout=log, env=self.environment)
        return self.process

    def said(self) -> str:
        """What its last process wrote."""
        return self.log.read_text(errors="replace").strip()

    def rows(self) -> int:
        """Bytes of the journal: it grows as epochs are told."""
        path = self.folder / "journal.jsonl"
        return path.stat().st_size if path.exists() else 0

    def progress(self, count: int) -> bool:
        """Wait until the journal has grown `count` times; False if the process ends before."""
        process = self.start()
        for _ in range(count):
            before, until = self.rows(), time.monotonic() + PATIENCE
            while self.rows() == before:
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

    def end(self) -> None:
        """Kill it and all its workers at once, as a power cut does."""
        if self.process is not None and self.process.poll() is None:
            workers = self.workers()
            self.process.kill()
            for worker in workers:
                kill(worker)
            self.process.wait()
            psutil.wait_procs(workers, timeout=30)

    def note(self, count: Count) -> None:
        """Compare the journal with what was there before."""
        told = [(int(i), int(e)) for i, e in harmed.study_in(self.folder).order]
        count.lost += len(self.seen - set(told))
        count.twice += len(told) - len(set(told))
        self.seen |= set(told)


class Server:
    """A server of this campaign on loopback, Prefect's or MLflow's."""

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
        place = [
            "--backend-store-uri",
            database(folder),
            "--artifacts-destination",
            str(folder),
            "--workers",
            "1",
        ]
        command = (
            ["mlflow", "server", *place]
            if kind == "mlflow"
            else ["prefect", "server", "start", "--no-services"]
        )
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

    def kill(self) -> None:
        """End it and all that it started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def database(folder: Path) -> str:
    """MLflow's database in a folder."""
    return f"sqlite:///{folder}/mlflow.db"


def kill(process: psutil.Process) -> None:
    """End a process that may be gone already."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def campaign(kind: str, kills: int, first: int, seed: int, folder: Path, out: Path) -> None:
    """`kills` kills of one kind, on studies numbered from `first`."""
    folder.mkdir(parents=True)
    if kind in MOUNTED:
        (folder / "disk").mkdir()
        mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder / "disk"))
    server = Server(kind, folder) if kind in (*FLOWS, "mlflow") else None
    done = 0
    try:
        if server:
            server.start()
        while done < kills:
            rng = random.Random(f"{seed} {kind} {first}")
            count = Count(kind, seed, first)
            one(count, kills - done, folder, server, rng)
            done, first = done + count.kills, first + 1
            append(out, count)
            print(
                f"{kind}: {done} of {kills}{'; ' + count.trouble if count.trouble else ''}",
                file=sys.stderr,
                flush=True,
            )
    finally:
        if server:
            server.kill()
        if kind in MOUNTED:
            mount("--lazy", str(folder / "disk"), command="umount")


def one(count: Count, kills: int, folder: Path, server: Server | None, rng: random.Random) -> None:
    """A study, and at most `kills` kills."""
    kind, here = count.kind, folder / "disk" if count.kind in MOUNTED else folder
    uri = (
        server.uri if server and kind == "mlflow" else database(here if kind == "disk" else folder)
    )
    environment = {**os.environ, **(server.environment if server else {})}
    victim = Victim(here / f"study-{count.study}", folder, uri, kind, environment)
    try:
        while count.kills < kills and strike(count, victim, server, rng):
            count.kills += 1
        finish(victim, count)
        count.survived = count.kills
    except (TimeoutError, RuntimeError, psutil.TimeoutExpired) as error:
        count.kills = max(count.kills, 1)  # or it would be tried for ever
        count.trouble = f"{type(error).__name__}: {error}"[:300]
    finally:
        victim.end()
    if not count.trouble:
        shutil.rmtree(victim.folder)


def strike(count: Count, victim: Victim, server: Server | None, rng: random.Random) -> bool:
    """One kill; False if the study ended before."""
    kind = count.kind
    early = kind in EARLY and count.kills % 4 == 0
    fresh = victim.process is None or victim.process.poll() is not None
    process = victim.start()
    if not (early and fresh) and not victim.progress(2 * harmed.WORKERS):
        return False
    time.sleep(rng.random() * (4.0 if early else 0.5))
    if process.poll() is not None:
        return False
    match kind:
        case "study" | "flow":
            workers = victim.workers()
            process.kill()
            process.wait()
            psutil.wait_procs(workers, timeout=30)
        case "machine":
            victim.end()
        case "worker":
            if not (workers := victim.workers()):
                return False
            kill(
                min(workers, key=lambda process: process.pid)
                # the older: one that still starts has made no progress, and thrice is the trial's
                # fault
            )
        case "mlflow" | "prefect":
            assert server is not None
            server.kill()
            time.sleep(2 * rng.random())
            server.start()
        case "disk":
            filler = victim.folder.with_name("filler")
            try:
                stops(victim, "No space left on device", lambda: fill(filler))
            finally:
                filler.unlink()
        case "readonly":
            try:
                stops(victim, "Read-only file system", lambda: remount(victim.folder.parent, "ro"))
            finally:
                remount(victim.folder.parent, "rw")
        case "checkpoint":
            victim.end()
            damage(
                max(victim.folder.glob("trial-*.ckpt"), key=lambda path: path.stat().st_mtime_ns),
                rng,
            )
        case "parquet":
            process.send_signal(signal.SIGINT)
            process.wait(timeout=PATIENCE)
            table = victim.folder / rng.choice(["curves.parquet", "configs.parquet"])
            table.write_bytes(table.read_bytes()[: rng.randrange(table.stat().st_size)])
        case "clock":
            process.send_signal(signal.SIGUSR1)
        case "memory":
            (victim.folder / harmed.HUNGRY).touch()
            wait_for(
                lambda: not (victim.folder / harmed.HUNGRY).exists() or process.poll() is not None
            )
    if process.poll() is not None:
        victim.note(count)
    return True


def stops(victim: Victim, message: str, harm: object) -> None:
    """Do harm until the study has stopped, which has to be with one line that says why.

    Raises `RuntimeError` where it is not.
    """
    assert victim.process is not None
    assert callable(harm)
    until = time.monotonic() + PATIENCE
    while victim.process.poll() is None:
        harm()
        if time.monotonic() > until:
            raise TimeoutError(f"it did not stop on: {message}")
        time.sleep(0.01)
    lines = [line for line in victim.said().splitlines() if line.startswith("error: ")]
    if (
        victim.process.returncode != 2
        or len(lines) != 1
        or message not in lines[0]
        or "Traceback" in victim.said()
    ):
        raise RuntimeError(
            f"exit code {victim.process.returncode} on {message!r}: {victim.said()[-200:]}"
        )


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with open(path, "ab", buffering=0) as filler:
        try:
            while filler.write(bytes(2**16)):
                pass
        except OSError:
            return


def remount(folder: Path, how: str) -> None:
    """Make a mounted folder read-only (`ro`) or not (`rw`).

    While a file is being written, the kernel says that it is busy.
    """
    until = time.monotonic() + 30
    while not mount("-o", f"remount,{how}", str(folder), check=False):
        if time.monotonic() > until:
            raise TimeoutError(f"{folder} could not be remounted {how}")
        time.sleep(0.002)


def mount(*arguments: str, command: str = "mount", check: bool = True) -> bool:
    """Run mount or umount; whether it succeeded."""
    return subprocess.run([command, *arguments], check=check, capture_output=True).returncode == 0


def damage(path: Path, rng: random.Random) -> None:
    """Cut a file short, or turn one of its bits over."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


def wait_for(condition: object) -> None:
    """Wait until something holds."""
    assert callable(condition)
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing happened for {PATIENCE:.0f} s")
        time.sleep(0.01)


def finish(victim: Victim, count: Count) -> None:
    """Let the study end, call it once more as a user would, and compare all records.

    Raises `RuntimeError` where it does not end as it should.
    """
    for _ in range(2):  # the second call logs what MLflow could not take at the end of the first
        code = victim.start().wait(timeout=PATIENCE)
    if code:
        raise RuntimeError(f"exit code {code}: {victim.said()[-200:]}")
    if failures := harmed.study_in(victim.folder).failures:
        raise RuntimeError(f"trials failed: {failures}")
    victim.note(count)
    want = {(i, e) for i in range(harmed.CONFIGS) for e in range(1, harmed.toy.EPOCHS + 1)}
    count.lost += len(want - victim.seen)
    columns = MetaDataset.load(victim.folder).table[["config_id", "epoch"]]
    table = Counter((int(i), int(e)) for i, e in columns.itertuples(index=False))
    count.lost += len(want - set(table))
    count.twice += sum(table.values()) - len(table)
    done = Counter(
        tuple(map(int, line.split()))
        for line in victim.executed.read_text(encoding="utf-8").splitlines()
    )
    count.epochs += len(want)
    count.lost += len(want - set(done))
    count.repeated += sum(done.values()) - len(done)
    twice, missing = logged(victim, want)
    count.twice, count.missing = count.twice + twice, count.missing + missing


def logged(victim: Victim, want: set[tuple[int, int]]) -> tuple[int, int]:
    """Points of the curves that MLflow has more than once, and those that it lacks."""
    from mlflow import MlflowClient

    client, found = MlflowClient(victim.uri), Counter[tuple[int, int]]()
    experiment = client.get_experiment_by_name(f"{harmed.PREFIX}/toy").experiment_id
    study = harmed.study_in(victim.folder)
    uid = Tracker(victim.uri, prefix=harmed.PREFIX)._views_of(study)(study, True).uid
    (parent,) = client.search_runs([experiment], f"tags.`foretune.study.study` = '{uid}'")
    for run in client.search_runs(
        [experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=1000
    ):
        for metric in client.get_metric_history(run.info.run_id, "score"):
            found[int(run.data.tags["foretune.trial"]), metric.step] += 1
    return sum(found.values()) - len(found), len(want - set(found))


def append(out: Path, count: Count) -> None:
    """Write a study's line."""
    new = not out.exists()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow([f.name for f in fields(Count)])
        writer.writerow([" ".join(str(value).split()) for value in asdict(count).values()])


def read(out: Path) -> list[Count]:
    """The lines there are."""
    if not out.exists():
        return []
    with open(out, encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    text = ("kind", "trouble")
    return [Count(**{k: v if k in text else int(v) for k, v in line.items()}) for line in lines]


def total(kind: str, lines: list[Count]) -> Count:
    """The sum of some studies; `study` is how many there were."""
    out = Count(kind, study=len(lines))
    for name in ("kills", "survived", "epochs", "repeated", "lost", "twice", "missing"):
        setattr(out, name, sum(getattr(line, name) for line in lines))
    return out


def table(lines: list[Count]) -> str:
    """The counts as Markdown, a row a kind and one for all."""
    head = [
        "killed",
        "kills",
        "survived",
        "studies",
        "epochs",
        "repeated",
        "lost",
        "twice",
        "not logged",
    ]
    rows = [
        total(kind, mine)
        for kind in KINDS
        if (mine := [line for line in lines if line.kind == kind])
    ]
    out = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for c in [*rows, total("all", lines)]:
        cells = [
            c.kind,
            c.kills,
            c.survived,
            c.study,
            c.epochs,
            c.repeated,
            c.lost,
            c.twice,
            c.missing,
        ]
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(out)


def main() -> int:
    """Run the campaign, or go on with it, and print its table."""
    parser = argparse.ArgumentParser(
        prog="python bench/faults.py", description="Do harm to studies and count the cost."
    )
    parser.add_argument("--kills", type=int, default=100, help="over all kinds together")
    parser.add_argument(
        "--kinds", default=",".join(KINDS), help="separated by commas (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="keep what was written there (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, default=Path("data/reports/faults.csv"))
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if unknown := [k for k in kinds if k not in KINDS]:
        parser.error(f"there is no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory() as temporary:
        for k, kind in enumerate(kinds):
            share = given.kills // len(kinds) + (k < given.kills % len(kinds))
            mine = [
                line for line in read(given.out) if (line.kind, line.seed) == (kind, given.seed)
            ]
            left = share - sum(line.kills for line in mine)
            if left <= 0:
                continue
            if kind in MOUNTED and "FORETUNE_MOUNTS" not in os.environ:
                options = [
                    "--kills",
                    str(share),
                    "--kinds",
                    kind,
                    "--seed",
                    str(given.seed),
                    "--out",
                    str(given.out),
                ]
                command = [
                    "unshare",
                    "--user",
                    "--map-root-user",
                    "--mount",
                    sys.executable,
                    __file__,
                    *options,
                ]
                subprocess.run(
                    command,
                    env={**os.environ, "FORETUNE_MOUNTS": "1"},
                    stdout=subprocess.DEVNULL,
                    check=False,
                )
                continue
            campaign(
                kind,
                left,
                len(mine),
                given.seed,
                (given.folder or Path(temporary)) / kind,
                given.out,
            )
    lines = [line for line in read(given.out) if line.kind in kinds]
    print(table(lines))
    for line in lines:
        if line.trouble:
            print(f"{line.kind} {line.study}: {line.trouble}")
    return 1 if any(line.bad for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
