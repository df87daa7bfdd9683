"""Kill a study at random moments and count what it cost: survived, epochs repeated, epochs lost, points that MLflow has twice or not at all.

    python bench/faults.py [--kills 100] [--kinds study,worker,machine,mlflow] [--seed 0]

Trials sleep instead of training (`tests/toys/toy.py`), so that processor cores do not limit, and write down each epoch that they really execute. Two workers.

| kind      | gets SIGKILL                                                                                                        |
|-----------|---------------------------------------------------------------------------------------------------------------------|
| `study`   | the process that tunes; its workers end by themselves                                                               |
| `worker`  | the older of the processes that run trials; the study goes on                                                       |
| `machine` | the tuning process and all its workers, at once                                                                     |
| `mlflow`  | the MLflow server, which is started again after up to two seconds; for this kind, studies log to a server           |

Each fourth kill comes while things start, the others after the study has made progress. A study that ends before its kills are done is followed by another.
Exit code 1 if an epoch was lost, a point logged twice or missing, or a study did not survive. An epoch that is repeated is one that was in flight: at most one
a worker and kill.
"""

import argparse
import os
import random
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "toys"))
import toy

from foretune.runner import run_study
from foretune.searchers.registry import searcher
from foretune.tracking import Tracker
from foretune.workers import Processes

CONFIGS, WORKERS, EPOCH_SECONDS = 24, 2, 0.06
BUDGET = CONFIGS * toy.EPOCHS
PATIENCE = 900.0  # seconds without any progress, after which a study has not survived
KINDS = ("study", "worker", "machine", "mlflow")


@dataclass
class Count:
    """A row of the table."""

    kills: int = 0
    survived: int = 0
    studies: int = 0
    epochs: int = 0
    repeated: int = 0
    lost: int = 0
    twice: int = 0
    missing: int = 0
    trouble: list[str] = field(default_factory=list)


def tune(folder: Path, uri: str) -> int:
    """Run or continue the study in `folder`, logging as it goes: the process that is killed."""
    study = toy.toy_study(folder, toy.toy_pool(CONFIGS), BUDGET)
    tracker = Tracker(uri, prefix="faults", every=0.1)
    tracker.sync(study)  # MLflow takes seconds to import: from here on, kills meet a tracker at work
    try:
        pool = Processes(toy.Toy(folder, EPOCH_SECONDS), WORKERS)
        run_study(study, searcher("random"), pool, on_change=tracker.submit, every=0.1)
    finally:
        logged = tracker.close(study)
    return 0 if logged else 3


class Victim:
    """The study in a folder as a process, started anew as often as needed; `seen` are the epochs that were ever found in its journal."""

    def __init__(self, folder: Path, uri: str):
        self.folder, self.uri = folder, uri
        folder.mkdir(parents=True)
        self.seen: set[tuple[int, int]] = set()
        self.process: psutil.Popen | None = None

    def start(self) -> None:
        """Start it, or leave it if it runs."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, __file__, "--run", str(self.folder), self.uri]
            with open(self.folder / "errors", "ab") as errors:
                self.process = psutil.Popen(command, stderr=errors, stdout=errors)

    def rows(self) -> int:
        """Bytes of the journal: it grows as epochs are told."""
        path = self.folder / "journal.jsonl"
        return path.stat().st_size if path.exists() else 0

    def progress(self, count: int) -> bool:
        """Wait until `count` epochs more are told; False if the process ends before."""
        assert self.process is not None
        for _ in range(count):
            before, until = self.rows(), time.monotonic() + PATIENCE
            while self.rows() == before:
                if self.process.poll() is not None:
                    return False
                if time.monotonic() > until:
                    raise TimeoutError(f"no progress for {PATIENCE:.0f} s in {self.folder}")
                time.sleep(0.005)
        return True

    def workers(self) -> list[psutil.Process]:
        """The processes that run trials."""
        assert self.process is not None
        try:
            return [p for p in self.process.children() if "spawn_main" in " ".join(p.cmdline())]
        except psutil.Error:
            return []

    def told(self) -> list[tuple[int, int]]:
        """The epochs in the journal."""
        study = toy.toy_study(self.folder, toy.toy_pool(CONFIGS), BUDGET)
        return [(int(i), int(e)) for i, e in study.order]

    def note(self, count: Count) -> None:
        """Compare the journal with what was there before."""
        told = self.told()
        count.lost += len(self.seen - set(told))
        count.twice += len(told) - len(set(told))
        self.seen |= set(told)


class Server:
    """An MLflow server of this campaign, on loopback."""

    def __init__(self, folder: Path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.process: psutil.Popen | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        place = [
            "--backend-store-uri",
            f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination",
            str(self.folder),
        ]
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1", *place]
        with open(self.folder / "server.log", "ab") as log:
            self.process = psutil.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
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


def campaign(kind: str, kills: int, folder: Path, rng: random.Random) -> Count:
    """`kills` kills of one kind."""
    count = Count()
    folder.mkdir(parents=True)
    server = Server(folder) if kind == "mlflow" else None
    uri = server.uri if server else f"sqlite:///{folder}/mlflow.db"
    if server:
        server.start()
    try:
        while count.kills < kills:
            victim = Victim(folder / f"study-{count.studies}", uri)
            count.studies += 1
            before = count.kills
            try:
                while count.kills < kills and strike(kind, victim, server, count, rng):
                    count.kills += 1
                    print(f"\r{kind}: {count.kills} of {kills}", end="", file=sys.stderr, flush=True)
                finish(victim, count)
                count.survived += count.kills - before
            except (TimeoutError, RuntimeError, psutil.TimeoutExpired) as error:
                count.trouble.append(f"{victim.folder}: {error}")
            finally:
                if victim.process is not None and victim.process.poll() is None:
                    victim.process.kill()
                    victim.process.wait()
    finally:
        if server:
            server.kill()
        print(file=sys.stderr)
    return count


def strike(kind: str, victim: Victim, server: Server | None, count: Count, rng: random.Random) -> bool:
    """One kill; False if the study ended before."""
    assert EPOCH_SECONDS < 1
    early = count.kills % 4 == 0 and kind != "worker"
    fresh = victim.process is None or victim.process.poll() is not None
    victim.start()
    assert victim.process is not None
    if not (early and fresh) and not victim.progress(2 * WORKERS):
        return False
    time.sleep(rng.random() * (4.0 if early else 0.5))
    if victim.process.poll() is not None:
        return False
    workers = victim.workers()
    if kind == "worker":
        if not workers:
            return False
        kill(
            min(workers, key=lambda process: process.pid)
        )  # the older: one that still starts has made no progress, and thrice is the trial's fault
        return True
    if kind == "mlflow":
        assert server is not None
        server.kill()
        time.sleep(2 * rng.random())
        server.start()
        return True
    victim.process.kill()
    for worker in workers if kind == "machine" else []:
        kill(worker)
    victim.process.wait()
    psutil.wait_procs(workers, timeout=30)
    victim.note(count)
    return True


def kill(process: psutil.Process) -> None:
    """End a process that may be gone already."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def finish(victim: Victim, count: Count) -> None:
    """Let the study end, call it once more as a user would, and compare all records. Raises `RuntimeError` where it does not end as it should."""
    for _ in range(2):  # the second call logs what MLflow could not take at the end of the first
        victim.start()
        assert victim.process is not None
        code = victim.process.wait(timeout=PATIENCE)
    if code:
        raise RuntimeError(f"exit code {code}: {(victim.folder / 'errors').read_text()[-500:]}")
    failures = toy.toy_study(victim.folder, toy.toy_pool(CONFIGS), BUDGET).failures
    if failures:
        raise RuntimeError(f"trials failed: {failures}")
    victim.note(count)
    want = {(i, e) for i in range(CONFIGS) for e in range(1, toy.EPOCHS + 1)}
    count.lost += len(want - victim.seen)
    done = Counter(tuple(map(int, line.split())) for line in (victim.folder / "executed").read_text().splitlines())
    count.epochs += len(want)
    count.repeated += sum(done.values()) - len(done)
    twice, missing = logged(victim, want)
    count.twice, count.missing = count.twice + twice, count.missing + missing


def logged(victim: Victim, want: set[tuple[int, int]]) -> tuple[int, int]:
    """Points of the curves that MLflow has more than once, and those that it lacks."""
    from mlflow import MlflowClient

    client, found = MlflowClient(victim.uri), Counter[tuple[int, int]]()
    experiment = client.get_experiment_by_name("faults/toy").experiment_id
    study = toy.toy_study(victim.folder, toy.toy_pool(CONFIGS), BUDGET)
    uid = Tracker(victim.uri, prefix="faults")._views_of(study)(study, True).uid
    (parent,) = client.search_runs([experiment], f"tags.`foretune.study` = '{uid}'")
    for run in client.search_runs(
        [experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=1000
    ):
        for metric in client.get_metric_history(run.info.run_id, "score"):
            found[int(run.data.tags["foretune.trial"]), metric.step] += 1
    return sum(found.values()) - len(found), len(want - set(found))


def table(counts: dict[str, Count]) -> str:
    """The counts as Markdown."""
    head = ["killed", "kills", "survived", "studies", "epochs", "repeated", "lost", "logged twice", "not logged"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for kind, c in counts.items():
        cells = [kind, c.kills, c.survived, c.studies, c.epochs, c.repeated, c.lost, c.twice, c.missing]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(prog="python bench/faults.py", description="Kill studies and count the cost.")
    parser.add_argument("--kills", type=int, default=100, help="over all kinds together")
    parser.add_argument("--kinds", default="study,worker,machine", help=f"of {', '.join(KINDS)}, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep what was written there (default: a temporary folder)")
    parser.add_argument("--run", nargs=2, metavar=("FOLDER", "URI"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        return tune(Path(given.run[0]), given.run[1])
    kinds = given.kinds.split(",")
    if unknown := [k for k in kinds if k not in KINDS]:
        parser.error(f"there is no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    rng, counts = random.Random(given.seed), {}
    with tempfile.TemporaryDirectory() as temporary:
        for k, kind in enumerate(kinds):
            kills = given.kills // len(kinds) + (k < given.kills % len(kinds))
            counts[kind] = campaign(kind, kills, (given.folder or Path(temporary)) / kind, rng)
    print(table(counts))
    bad = [c for c in counts.values() if c.survived < c.kills or c.lost or c.twice or c.missing]
    for line in (line for c in counts.values() for line in c.trouble):
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
