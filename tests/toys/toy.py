"""A toy objective and study for tests with real processes: importable by spawned workers, and a
script.

    python toy.py FOLDER --workers 2      runs the study in FOLDER, or continues it

A configuration is {"x": ...}; its value after epoch e is x (1 - 0.7^e), so that the best
configuration is the one of the highest x. Every epoch that is really executed adds a line `trial
epoch` to FOLDER/executed, so that a test can count what was done twice.
"""

import argparse
import errno
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.running.runner import run_study
from foretune.running.workers import Processes
from foretune.searchers.registry import searcher
from foretune.space.space import Space
from foretune.study.outcome import Outcome
from foretune.study.study import Plan, Study

EPOCHS = 9
X = {
    "type": "uniform_float",
    "name": "x",
    "lower": 0.0,
    "upper": 1.0,
    "default_value": 0.5,
    "log": False,
    "meta": None,
}
KIND = {
    "type": "categorical",
    "name": "kind",
    "choices": ["plain", "diverges", "dies", "dies_once", "refuses", "no_disk"],
    "weights": None,
}
DESCRIBED = {
    "name": "toy",
    "hyperparameters": [X, {**KIND, "default_value": "plain", "meta": None}],
    "conditions": [],
    "forbiddens": [],
    "format_version": 0.4,
}


def value(x: float, epoch: int) -> float:
    """What epoch `epoch` of a configuration gives."""
    return x * (1.0 - 0.7**epoch)


def toy_space() -> Space:
    """One number and one kind of trouble."""
    return Space(DESCRIBED)


def toy_pool(n: int) -> list[dict]:
    """`n` configurations without trouble."""
    return [{"x": round((7 * i % n) / n, 6), "kind": "plain"} for i in range(n)]


@dataclass(frozen=True)
class Toy:
    """An objective with checkpoints (the rows so far, as JSON), like `Training`."""

    folder: Path
    seconds: float = 0.0

    def run(self, config_id, config, start, stop, on_epoch=None):
        """Rows of the epochs after `start`; those that the checkpoint has are not executed
        again.
        """
        if config["kind"] == "refuses":
            raise BadInput("this configuration cannot be trained")
        rows = self.read(config_id)
        for row in rows[start:stop]:
            if on_epoch:
                on_epoch(row)
        while len(rows) < stop:
            epoch = len(rows) + 1
            self.trouble(config_id, config["kind"], epoch)
            time.sleep(self.seconds)
            score = self.train(config_id, config, epoch)
            if config["kind"] == "diverges" and epoch == 3:
                return Outcome(rows[start:stop], f"loss is nan in epoch {epoch}")
            rows.append({"epoch": epoch, "score": score})
            self.write(config_id, rows)
            if on_epoch and epoch > start:
                on_epoch(rows[-1])
        return Outcome(rows[start:stop])

    def read(self, config_id):
        """The rows that the checkpoint has."""
        checkpoint = self.folder / f"trial-{config_id}.json"
        return json.loads(checkpoint.read_text()) if checkpoint.exists() else []

    def write(self, config_id, rows):
        """Replace the checkpoint."""
        write_atomic(self.folder / f"trial-{config_id}.json", json.dumps(rows))

    def train(self, config_id, config, epoch):
        """Execute an epoch, and write down that it was."""
        with open(self.folder / "executed", "a", encoding="utf-8") as log:
            log.write(f"{config_id} {epoch}\n")
        return value(config["x"], epoch)

    def trouble(self, config_id, kind, epoch):
        """Meet a full disk, or kill this very process, as the kernel does when memory runs out."""
        if kind == "no_disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / "trial"))
        marker = self.folder / f"died-{config_id}"
        if epoch == 4 and (kind == "dies" or (kind == "dies_once" and not marker.exists())):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Unready(Toy):
    """A toy whose worker never gets ready: by an error of its own, an exit or a kill."""

    how: str = "MemoryError"

    def prepare(self) -> None:
        """Do not get ready."""
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            os._exit(3)
        raise {"MemoryError": MemoryError, "ImportError": ImportError}[self.how]("no torch")


@dataclass(frozen=True)
class KilledOnce(Toy):
    """A toy whose first worker is killed before it is ready."""

    def prepare(self) -> None:
        """Die where nobody did before."""
        if not (flag := self.folder / "killed").exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def toy_study(folder, pool, budget, method="random", kind=Study, **plan):
    """The study in `folder`, new or continued."""
    plan = {
        "task": "toy",
        "metric": "score",
        "goal": "maximize",
        "max_epoch": EPOCHS,
        "budget": budget,
        "method": method,
        **plan,
    }
    return kind(toy_space(), pool, Plan(**plan), folder=folder)


def main():
    """Run or continue the study in a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--configs", type=int, default=30)
    parser.add_argument("--budget", type=int, default=270)
    parser.add_argument("--method", default="random")
    parser.add_argument("--seconds", type=float, default=0.01)
    args = parser.parse_args()
    study = toy_study(args.folder, toy_pool(args.configs), args.budget, args.method)
    try:
        run_study(
            study, searcher(args.method), Processes(Toy(args.folder, args.seconds), args.workers)
        )
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
