"""The study that `bench/faults.py` does harm to, and the process that runs it.

Its trials sleep, on processes or as a Prefect flow.

    python bench/victim.py FOLDER URI LOG [--flow] [--sealed]

Runs the study in FOLDER or continues it, logs to MLflow at URI, and writes each executed epoch with
its value into the file LOG. No two executions give the same value, so that a mix-up cannot hide.

Exit code 0: done and logged; 2: stopped by a fault of the machine, with one line that says which;
3: MLflow lacks something, the next call logs it.
"""

import argparse
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "toys"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "flows"))
import toy

from foretune.commands.cli import told
from foretune.errors import BadInput
from foretune.running.runner import run_study
from foretune.running.workers import Processes, Workers
from foretune.searchers.registry import searcher
from foretune.study.study import Study
from foretune.views.tracking import Tracker

CONFIGS, WORKERS, EPOCH_SECONDS = 24, 2, 0.12
BUDGET = CONFIGS * toy.EPOCHS
HUNGRY = "hungry"  # a file with this name lets the next epoch run out of memory
DOOMED = "doomed"  # one with seconds in it kills the process so long after it began to save tables
PREFIX = "faults"


@dataclass(frozen=True)
class Trial(toy.Toy):
    """A toy trial that writes what it executes beside the study's folder.

    It may run out of memory, and may keep real checkpoints (`sealed`).
    """

    sealed: bool = False
    log: Path = Path("executed")

    def checkpoint(self, config_id: int) -> Path:
        """Where a sealed checkpoint lies."""
        return self.folder / f"trial-{config_id}.ckpt"

    def read(self, config_id: int) -> list[dict[str, Any]]:
        """The rows that the checkpoint has; none if it is damaged, as in training."""
        if not self.sealed:
            return super().read(config_id)
        from foretune.training import checkpoints

        return (checkpoints.load(self.checkpoint(config_id)) or {"rows": []})["rows"]

    def write(self, config_id: int, rows: list[dict[str, Any]]) -> None:
        """Replace the checkpoint."""
        if not self.sealed:
            super().write(config_id, rows)
            return
        from foretune.training import checkpoints

        checkpoints.save(self.checkpoint(config_id), {"rows": rows})

    def train(self, config_id: int, config: Mapping[str, Any], epoch: int) -> float:
        """Execute an epoch: a value that no other execution of it gives, and that changes no order
        of configurations. It is written down where no fault of the study's folder can hide it.
        """
        score = round(toy.value(config["x"], epoch) + 1e-5 * random.randrange(1000), 5)
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"{config_id} {epoch} {score} {config['x']}\n")
        return score

    def trouble(self, config_id: int, kind: str, epoch: int) -> None:
        """Run out of memory if asked: the process may take 64 MiB more, and asks for 512."""
        asked = self.folder / HUNGRY
        with suppress(FileNotFoundError):  # the other worker was quicker
            if not asked.exists():
                return
            asked.unlink()
            limit = psutil.Process().memory_info().vms + 2**26
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            bytearray(2**29)


class Doomed(Study):
    """A study whose process may be killed while it saves its tables."""

    def save_tables(self) -> None:
        """Save them, with the end near if there is a file `DOOMED`."""
        assert self.folder is not None
        if (order := self.folder / DOOMED).exists():
            seconds = float(order.read_text(encoding="utf-8"))
            order.unlink()
            threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGKILL]).start()
        super().save_tables()


def study_in(folder: Path) -> Study:
    """The study in a folder, new or continued."""
    return toy.toy_study(folder, toy.toy_pool(CONFIGS), BUDGET, kind=Doomed)


def run(folder: Path, uri: str, workers: Workers) -> bool:
    """Run or continue the study, logging as it goes; whether MLflow has it all."""
    study = study_in(folder)
    tracker = Tracker(uri, prefix=PREFIX, every=0.1, warn=lambda line: print(line, file=sys.stderr))
    # MLflow takes seconds to import: from here on, faults meet a tracker at work
    tracker.sync(study)
    try:
        run_study(study, searcher("random"), workers, on_change=tracker.submit, every=0.1)
    finally:
        logged = tracker.close(study)
    return logged


def run_as_flow(folder: Path, uri: str, objective: Trial) -> bool:
    """The same as a Prefect flow, its steps as task runs."""
    from prefect import flow
    from prefect_api import prefect_api
    from tune import PrefectWorkers

    def faults() -> bool:
        return run(folder, uri, PrefectWorkers(objective, WORKERS))

    with prefect_api():
        return flow(name="faults", persist_result=False)(faults)()


class Clock:
    """The wall clock of this process, which goes back by an hour with each SIGUSR1."""

    def __init__(self) -> None:
        self.behind, self.time, self.time_ns = 0, time.time, time.time_ns
        time.time = lambda: self.time() - self.behind
        time.time_ns = lambda: self.time_ns() - self.behind * 10**9
        signal.signal(signal.SIGUSR1, self.turn_back)

    def turn_back(self, signum: int, frame: Any) -> None:
        """An hour less."""
        self.behind += 3600


def main(argv: list[str] | None = None) -> int:
    """Run the study as a process that may be killed."""
    parser = argparse.ArgumentParser(prog="python bench/victim.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("uri")
    parser.add_argument("log", type=Path)
    parser.add_argument("--flow", action="store_true")
    parser.add_argument("--sealed", action="store_true")
    given: Mapping[str, Any] = vars(parser.parse_args(argv))
    Clock()
    # a shell has its background processes ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    objective = Trial(given["folder"], EPOCH_SECONDS, sealed=given["sealed"], log=given["log"])
    try:
        if given["flow"]:
            logged = run_as_flow(given["folder"], given["uri"], objective)
        else:
            logged = run(given["folder"], given["uri"], Processes(objective, WORKERS))
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if (line := told(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return 2
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if logged else 3


if __name__ == "__main__":
    import victim  # so that worker processes can import the objective's class by its name

    sys.exit(victim.main())
