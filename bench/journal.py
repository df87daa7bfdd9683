"""What a journal line costs beyond the disk: `Journal.append` against a bare write and fsync of the
same bytes, in turn, in one run.

    python bench/journal.py [--lines 2000] [--folder FOLDER]

The folder should lie on the disk that is meant (default: a temporary folder below the current one).
Prints medians and quartiles in microseconds, and the ratio of the medians. `Study.tell` is the same
line with all checks of what is told.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ConfigSpace import ConfigurationSpace

from foretune.space.space import Space
from foretune.study.journal import Journal
from foretune.study.study import Plan, Step, Study


def lines(count: int) -> list[dict[str, object]]:
    """Events as a training study tells them."""
    return [
        {
            "event": "epoch",
            "config_id": k % 97,
            "row": {
                "epoch": k,
                "train_loss": 1.0 / (k + 1),
                "valid_loss": 1.2 / (k + 1),
                "valid_accuracy": 0.5 + k * 1e-6,
                "seconds": 1.234567,
            },
            "elapsed": 1.5 * k,
        }
        for k in range(count)
    ]


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def bare(handle: int, content: bytes) -> None:
    """A write and an fsync."""
    os.write(handle, content)
    os.fsync(handle)


def measured(folder: Path, count: int) -> dict[str, np.ndarray]:
    """Seconds of each write, (count,), by what wrote: each in turn, so that the disk is the same."""
    journal = Journal(folder / "journal.jsonl")
    journal.append([{"event": "begin"}])
    space = Space(ConfigurationSpace({"x": (0.0, 1.0)}))
    plan = Plan(
        task="speed", metric="value", goal="maximize", max_epoch=count + 1, budget=count + 1
    )
    taken: dict[str, list[float]] = {"write and fsync": [], "Journal.append": [], "Study.tell": []}
    with (
        open(folder / "bare", "ab", buffering=0) as stream,
        Study(space, [{"x": 0.5}], plan, folder=folder / "study") as study,
    ):
        for k, event in enumerate(lines(count)):
            before = journal.size
            taken["Journal.append"].append(seconds(lambda event=event: journal.append([event])))
            content = b"x" * (journal.size - before - 1) + b"\n"
            taken["write and fsync"].append(
                seconds(lambda content=content: bare(stream.fileno(), content))
            )
            row = {"epoch": k + 1, "value": 0.5, "loss": 1.0, "seconds": 1.2}
            step = Step(0, k, k + 1)
            taken["Study.tell"].append(seconds(lambda step=step, row=row: study.tell(step, [row])))
    return {name: np.array(values) for name, values in taken.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python bench/journal.py")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measured(Path(folder), given.lines)
    base = float(np.median(found["write and fsync"]))
    print("| a line by | median, µs | quartiles, µs | of write and fsync |\n|---|---:|---:|---:|")
    for name, values in found.items():
        low, middle, high = 1e6 * np.quantile(values, [0.25, 0.5, 0.75])
        print(f"| {name} | {middle:.0f} | {low:.0f} to {high:.0f} | {middle / 1e6 / base:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
