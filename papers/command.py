"""What the commands of the experiments share: how they fail, and the options of the long ones."""

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from foretune.errors import BadInput
from foretune.history.grid import LEAVE
from foretune.pipeline.meta_dataset import collect_on_processes
from foretune.running.collection import Block, Collection
from foretune.running.collector import Job

say = partial(print, flush=True)


class Main(Protocol):
    """A command: takes its arguments (default: the command line's), gives the exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(main: Callable[[Sequence[str] | None], int | None]) -> Main:
    """`main(argv)` as a command that ends in one line on the error stream where it cannot go on.

    Exit code 2 for bad input, 130 for a key that stops it.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv) or 0
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130

    return run


def resumable(
    module: str, about: str | None, work: Path, minutes: str, compare: str
) -> argparse.ArgumentParser:
    """A parser with the options of an experiment that holds out tasks and goes on where it stopped.

    `work` is where it keeps finished runs unless told otherwise, `minutes` says what its time limit
    stops, `compare` what it makes again. Options: params, reports, minutes, work, leave, compare.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--reports", type=Path, default=Path("data/reports"))
    parser.add_argument("--minutes", type=float, default=math.inf, help=minutes)
    parser.add_argument("--work", type=Path, default=work, help="where finished runs are kept")
    parser.add_argument(
        "--leave", default=",".join(LEAVE), help="what is held out together (default: source,task)"
    )
    parser.add_argument("--compare", type=int, default=0, metavar="N", help=compare)
    return parser


def collecting(module: str, data: str, out: Path | None) -> argparse.ArgumentParser:
    """A parser with the options of a collection: data (a folder; `data` says of what), out, workers,
    minutes.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start nothing after that")
    return parser


def collect(
    parts: Iterable[tuple[str, Collection, list[Block]]],
    files: Mapping[str, Path],
    workers: int,
    end: float,
) -> int:
    """Train the missing blocks of one table after the other, each named, and start nothing after
    `end` (`time.monotonic`); tasks' images are in `files`. Exit code 0 when all is there, 130 when
    stopped.
    """
    for name, table, blocks in parts:
        table.save()  # nothing, unless the last run was stopped in the middle of a write
        say(f"{name}: {sum(len(block.config_ids) for block in blocks)} cells")
        job = Job(table, files, blocks, workers, max(0.0, end - time.monotonic()))
        if status := collect_on_processes(job, say):
            return status
    return 0
