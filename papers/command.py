"""What the commands of the experiments share: how they fail, and the options of the long ones."""

import argparse
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from foretune.errors import BadInput
from foretune.history.grid import LEAVE


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
