"""The kinds of harm that are done to a study whose trials sleep (`bench/victim.py`)."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import victim as harmed

from campaign.counts import Count
from campaign.nursery import Nursery
from campaign.processes import (
    Server,
    Victim,
    fill,
    gone,
    kill,
    mount,
    said,
    stops,
    wait_for,
)
from campaign.records import Findings, changed, compare, executions, told
from foretune.study.study import Study

LONG = 12.0  # seconds: a server that hangs for longer than a client waits
WHOLE = {(i, e) for i in range(harmed.CONFIGS) for e in range(1, harmed.toy.EPOCHS + 1)}


@dataclass
class Case:
    """A study that harm is done to. `here` is the folder that it lies in, `aside` one that no harm
    reaches.
    """

    count: Count
    rng: random.Random
    here: Path
    aside: Path
    server: Server | None
    environment: dict[str, str]
    uri: str
    options: tuple[str, ...] = ()
    nursery: Nursery | None = None

    def __post_init__(self) -> None:
        self.victim = self.study(f"study-{self.count.study}")

    def study(self, name: str) -> Victim:
        """The study of this name, and how it is run."""
        command = [sys.executable, harmed.__file__, str(self.here / name), self.uri]
        command += [str(self.executed(name)), *self.options]
        return Victim(self.here / name, self.aside, command, self.environment, self.nursery)

    def executed(self, name: str) -> Path:
        """The file of what a study's trials executed."""
        return self.aside / f"{name}.executed"

    def note(self) -> None:
        """Compare the journal with what was there before."""
        if not (self.victim.folder / "study.json").exists():
            return  # it was killed before it had begun
        now = told(Study.load(self.victim.folder))
        lost, other = changed(self.victim.seen, now)
        self.count.lost += lost
        self.blame(other)
        self.victim.seen |= now

    def blame(self, wrong: list[str]) -> None:
        """Count what is wrong, and keep the first of it in words."""
        self.count.wrong += len(wrong)
        if wrong and not self.count.trouble:
            self.count.trouble = wrong[0][:300]

    def add(self, found: Findings) -> None:
        """Add what a comparison found."""
        for name in ("epochs", "repeated", "lost", "twice", "missing"):
            setattr(self.count, name, getattr(self.count, name) + getattr(found, name))
        self.blame(found.wrong)

    def end(self) -> None:
        """End what runs of it, if it has not ended."""
        self.victim.end()

    def finish(self, victim: Victim | None = None) -> None:
        """Let the study end, call it once more as a user would, and compare all records. Raises
        `RuntimeError` where it does not end as it should.
        """
        victim = victim or self.victim
        for _ in range(
            2
        ):  # the second call logs what MLflow could not take at the end of the first
            code = victim.start().wait(timeout=600)
        if code:
            raise RuntimeError(f"exit code {code}: {victim.said()[-200:]}")
        if failures := Study.load(victim.folder).failures:
            raise RuntimeError(f"trials failed: {failures}")
        if victim is self.victim:
            self.note()
        executed = self.executed(victim.folder.name)
        self.add(compare(victim.folder, self.uri, harmed.PREFIX, WHOLE, executed))


def study(case: Case) -> None:
    """SIGKILL for the process that tunes; its workers end by themselves"""
    case.victim.stop(signal.SIGKILL)


def flow(case: Case) -> None:
    """SIGKILL for a Prefect flow that runs the study, its steps as task runs"""
    case.victim.stop(signal.SIGKILL)


def worker(case: Case) -> None:
    """SIGKILL for the older of the processes that run trials; the study goes on"""
    # one that still starts has made no progress, and thrice is the trial's fault
    wait_for(lambda: case.victim.workers() or not case.victim.running)
    for process in sorted(case.victim.workers(), key=lambda process: process.pid)[:1]:
        kill(process)


def machine(case: Case) -> None:
    """SIGKILL for the process that tunes and all its workers, at once"""
    case.victim.end()


def terminate(case: Case) -> None:
    """SIGTERM, or the terminal is closed (SIGHUP)"""
    case.victim.stop(case.rng.choice([signal.SIGTERM, signal.SIGHUP]))


def interrupt(case: Case) -> None:
    """Ctrl-C, and within a third of a second once more"""
    process, workers = case.victim.start(), case.victim.workers()
    process.send_signal(signal.SIGINT)
    time.sleep(case.rng.random() / 3)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    gone(workers)


def frozen(case: Case) -> None:
    """SIGSTOP for all processes, or one of them; SIGCONT after up to five seconds"""
    everyone = [case.victim.start(), *case.victim.workers()]
    chosen = case.rng.choice([everyone, everyone[:1], everyone[-1:]])
    for process in chosen:
        process.suspend()
    time.sleep(5 * case.rng.random())
    for process in chosen:
        process.resume()


def restart(case: Case) -> None:
    """SIGKILL for the server that it talks to; started again after up to two seconds"""
    assert case.server is not None
    case.server.kill()
    time.sleep(2 * case.rng.random())
    case.server.start()


def hang(case: Case) -> None:
    """SIGSTOP for the server that it talks to, SIGCONT after up to twelve seconds"""
    assert case.server is not None
    case.server.signal(signal.SIGSTOP)
    time.sleep(LONG * case.rng.random())
    case.server.signal(signal.SIGCONT)


def everything(case: Case) -> None:
    """SIGKILL for the study, its workers and MLflow's server, at once"""
    assert case.server is not None
    case.server.kill()
    case.victim.end()
    case.server.start()


def migration(case: Case) -> None:
    """SIGKILL for all processes while MLflow makes its first database"""
    # it is made beside its place, and put there whole
    database = Path(case.uri.partition(":///")[2])
    making = f".{database.name}.*{database.suffix}"
    process = case.victim.start()
    wait_for(lambda: any(case.here.glob(making)) or database.exists() or process.poll() is not None)
    time.sleep(2.5 * case.rng.random())
    case.victim.end()


def disk(case: Case) -> None:
    """the disk of the study, and of MLflow's database, is full; the study is to stop with a clear
    line; then there is room again"""
    filler = case.here / "filler"
    try:
        stops(case.victim, "No space left on device", lambda: fill(filler))
    finally:
        filler.unlink()


def log_disk(case: Case) -> None:
    """the disk of MLflow's database alone is full for up to three seconds; the study goes on"""
    filler = Path(case.uri.partition(":///")[2]).with_name("filler")
    try:
        until = time.monotonic() + 3 * case.rng.random()
        while time.monotonic() < until:
            fill(filler)
            time.sleep(0.05)
    finally:
        filler.unlink()


def readonly(case: Case) -> None:
    """the study's folder becomes read-only; the study is to stop with a clear line"""
    # over the folder, since a disk with an open file on it, such as the study's lock, stays
    # writable
    folder = str(case.victim.folder)
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,bind,ro", folder)
        stops(case.victim, "Read-only file system")
    finally:
        mount("--lazy", folder, command="umount")


def checkpoint(case: Case) -> None:
    """the machine is killed, and the newest checkpoint is cut short or has a bit turned over"""
    case.victim.end()
    files = case.victim.folder.glob("trial-*.ckpt")
    damage(max(files, key=lambda path: path.stat().st_mtime_ns), case.rng)
    case.count.allowed += harmed.toy.EPOCHS


def journal(case: Case) -> None:
    """the machine is killed, and a line of the journal is damaged, lost, doubled, moved, another
    study's or torn, or its last ones are cut off; the study is refused until `foretune doctor
    --repair`"""
    case.victim.end()
    case.note()
    file = case.victim.journal
    before = file.read_bytes()
    line, content = damaged(before, case.rng)
    file.write_bytes(content)
    if line is None:  # the last line is torn, which is what a kill leaves before it counted
        file.with_suffix(".end").unlink(missing_ok=True)
        return
    short = f"journal.jsonl ends with line {line - 1}, but"
    cut = before.startswith(content)
    stops(case.victim, short if cut else f"journal.jsonl, line {line}, is damaged")
    repair = [sys.executable, "-m", "foretune", "doctor", "--repair", str(case.victim.folder)]
    done = subprocess.run(repair, capture_output=True, env=case.environment, check=False)
    kept = file.read_bytes()
    if done.returncode or not before.startswith(kept) or kept.count(b"\n") != line - 1:
        raise RuntimeError(f"repaired line {line}: {(done.stdout + done.stderr)[-200:]!r}")
    # what stood behind the damage is cut off and told again when the study goes on
    case.victim.seen = told(Study.load(case.victim.folder))


def damaged(content: bytes, rng: random.Random) -> tuple[int | None, bytes]:
    """A journal with one line spoiled, and the number of the first line that cannot be what was
    written; None where only the last line is torn.
    """
    lines = content.splitlines(keepends=True)
    k = rng.randrange(1, len(lines) - 1)
    line = lines[k]
    harms = ["bit", "cut", "lost", "doubled", "moved", "value", "foreign", "torn", "ends"]
    match rng.choice(harms):
        case "bit":
            spoiled = bytearray(line)
            spoiled[rng.randrange(len(line) - 1)] ^= 1 << rng.randrange(7)
            lines[k] = bytes(spoiled)
            if b"\n" in lines[k][:-1]:
                return k + 1, b"".join(lines)
        case "cut":
            at = rng.randrange(1, len(line) - 2)
            lines[k] = line[:at] + line[at + 1 :]
        case "lost":
            del lines[k]
        case "ends":
            del lines[k:]
        case "doubled":
            lines.insert(k, line)
            return k + 2, b"".join(lines)
        case "moved":
            lines[k - 1 : k + 1] = lines[k], lines[k - 1]
            return k, b"".join(lines)
        case "value":
            event = json.loads(line)
            event["event"] = "clock" if event["event"] != "clock" else "note"
            lines[k] = (json.dumps(event) + "\n").encode()
        case "foreign":
            lines[k] = line.replace(b'"event"', b'"event" ', 1)
        case "torn":
            return None, content[: len(content) - rng.randrange(1, len(lines[-1]))]
    return k + 1, b"".join(lines)


def header(case: Case) -> None:
    """the machine is killed, and a bit of study.json or space.json is turned over; the study is
    refused until the file is put back, or the bit does not matter"""
    case.victim.end()
    file = case.victim.folder / case.rng.choice(["study.json", "space.json"])
    before = file.read_bytes()
    spoiled = bytearray(before)
    spoiled[case.rng.randrange(len(spoiled))] ^= 1 << case.rng.randrange(7)
    file.write_bytes(spoiled)
    if not case.victim.progress(2):
        process = case.victim.process
        assert process is not None
        if process.returncode:
            said(case.victim.said(), process.returncode, "")
            file.write_bytes(before)


def parquet(case: Case) -> None:
    """the study is stopped, and one of its tables is cut short"""
    case.victim.stop(signal.SIGINT)
    table = case.victim.folder / case.rng.choice(["curves.parquet", "configs.parquet"])
    table.write_bytes(table.read_bytes()[: case.rng.randrange(table.stat().st_size)])


def clock(case: Case) -> None:
    """the wall clock goes back by an hour under a running study"""
    case.victim.start().send_signal(signal.SIGUSR1)


def memory(case: Case) -> None:
    """a trial runs out of memory, in a process with a limit"""
    asked = case.victim.folder / harmed.HUNGRY
    asked.touch()
    wait_for(lambda: not asked.exists() or not case.victim.running)


def second(case: Case) -> None:
    """a second process wants to run the same study, and is to be refused with a clear line"""
    log = case.aside / "second.log"
    other = case.victim.another(log)
    code = other.wait(timeout=120)
    if case.victim.running:
        text = log.read_text(encoding="utf-8", errors="replace")
        said(text, code, "is being run by another process")


def save(case: Case) -> None:
    """the study is stopped, and killed while it saves its tables"""
    case.victim.end()
    order = case.victim.folder / harmed.DOOMED
    order.write_text(f"{0.2 * case.rng.random() ** 2}", encoding="utf-8")
    if case.victim.progress(2):
        case.victim.stop(signal.SIGINT)
    case.count.allowed += harmed.WORKERS  # two stops
    order.unlink(missing_ok=True)


def copied(case: Case) -> None:
    """the study's folder is copied, and the study and its copy both go on, each with values of its
    own"""
    case.victim.end()
    name = f"{case.victim.folder.name}-{case.count.kills}"
    other = case.study(name)
    shutil.copytree(case.victim.folder, other.folder)
    shutil.copyfile(case.executed(case.victim.folder.name), case.executed(name))
    before = repeats(case.executed(name))
    if case.rng.random() < 0.5:  # who goes on first
        case.victim.progress(4)
        case.victim.end()
        case.count.allowed += harmed.WORKERS
    case.count.repeated -= before  # they are counted with the study itself
    case.finish(other)
    case.count.allowed += harmed.WORKERS
    shutil.rmtree(other.folder)


def restored(case: Case) -> None:
    """the study goes on, and is then put back to what it was, from a copy"""
    case.victim.end()
    folder = case.victim.folder
    backup = case.aside / "backup"
    shutil.copytree(folder, backup)
    executed = case.executed(folder.name)
    before = len(executions(executed))
    case.victim.progress(6)
    case.victim.end()
    case.count.allowed += len(executions(executed)) - before + harmed.WORKERS
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    shutil.rmtree(backup)
    case.victim.seen = told(Study.load(folder))


def repeats(executed: Path) -> int:
    """Epochs that were executed more than once."""
    done = executions(executed)
    return len(done) - len({(one.trial, one.epoch) for one in done})


def damage(path: Path, rng: random.Random) -> None:
    """Cut a file short, or turn one of its bits over."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
