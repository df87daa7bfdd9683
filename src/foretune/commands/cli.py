"""The `foretune` command. Each subcommand loads only what it needs, so that `--help` is instant;
bad input is one line and exit code 2.
"""

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from foretune import __version__
from foretune.commands.arguments import add_commands
from foretune.errors import BadInput

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, and which takes options whole: one that is
    cut short today may mean another one tomorrow.
    """

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and refuse what is left over; a subcommand's parser does so for its own options."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.refuse(unknown)
        return parsed, unknown

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Name the first argument that is none, with near ones; exit code 2."""
        name = next((one for one in unknown if one.startswith("-")), unknown[0])
        name = name.partition("=")[0]
        near = get_close_matches(name, self._option_string_actions, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        self.error(f"unknown {'option' if name.startswith('-') else 'argument'} {name!r}{hint}")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is; exit code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} ({self.prog} --help says more)\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="foretune",
        description="Tune image classifiers with what earlier tuning runs taught: hand over "
        "a folder of images, get the best hyperparameters.",
        epilog="foretune COMMAND --help says more. Start with: foretune tune "
        "FOLDER_OF_CLASS_FOLDERS --budget 100",
    )
    top.add_argument("--version", action="version", version=f"foretune {__version__}")
    commands = top.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    add_commands(commands)
    return top


def check_place(data: Path) -> None:
    """Raise `BadInput` now for a data folder that is a file."""
    if data.exists() and not data.is_dir():
        raise BadInput(f"--data {data} is a file; give a folder")


def check_output(path: Path | None) -> None:
    """Raise `BadInput` now for an output file that could not be written after the work is done."""
    if path is None:
        return
    if path.is_dir():
        raise BadInput(f"--out {path} is a folder; give a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise BadInput(f"--out {path}: there is no folder {path.parent} that can be written to")


def told(error: OSError) -> str | None:
    """An error of the operating system in one line; None for one about no file and no disk: a
    defect, to be seen in full.
    """
    if error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    # met by a write, which knows no names
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        return str(error.strerror)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    import importlib

    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    for stream in (sys.stdout, sys.stderr):
        # a name that the terminal's encoding lacks is shown with ?, and ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.formatwarning = as_line
    args = parser().parse_args(argv)
    module, _, function = args.run.partition(":")
    try:
        if hasattr(args, "data"):
            check_place(args.data)
        return getattr(importlib.import_module(module), function)(args) or 0
    except BadInput as error:
        print(f"foretune {args.subcommand}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output is gone (such as `| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (line := told(error)) is None:
            raise
        print(f"foretune {args.subcommand}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nforetune {args.subcommand}: stopped", file=sys.stderr)
        return 130


def as_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning as one line for people; of those that are meant for programmers, with its place."""
    if issubclass(category, UserWarning):
        return f"  {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


if __name__ == "__main__":
    sys.exit(main())
