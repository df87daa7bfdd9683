"""The DVC stage `tasks`: prepare the embedded image tasks.

python -m foretune.pipeline.tasks [NAMES] --out data/images
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from foretune.errors import BadInput
from foretune.tasks.embedded.prepare import EMBEDDED, prepare_all
from foretune.tasks.pixels import check_size


def main(arguments: Sequence[str] | None = None) -> int:
    """The command of the DVC stage: prepare the named tasks, or all; exit code 2 where one could
    not be prepared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.tasks", description="Prepare embedded image tasks."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"default: all ({', '.join(EMBEDDED)})"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/images"),
        help="folder of the .npz files (default: data/images)",
    )
    parser.add_argument("--size", type=int, default=64, help="edge length in pixels (default: 64)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    given = parser.parse_args(arguments)
    try:
        check_size(given.size)
        failed = prepare_all(
            given.names or list(EMBEDDED),
            given.out,
            given.size,
            max(1, given.workers),
            partial(print, flush=True),
        )
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, reason in failed.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
