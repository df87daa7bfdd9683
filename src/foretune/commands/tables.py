"""`foretune methods` and `foretune tasks`."""

import argparse

from foretune.errors import BadInput
from foretune.searchers.registry import DEFAULT, METHODS


def methods(args: argparse.Namespace) -> int:
    """List the methods, or print the default's name."""
    if args.default:
        print(DEFAULT)
        return 0
    width = max(map(len, METHODS))
    for name, entry in METHODS.items():
        marks = " (needs past tasks)" if entry.needs_past else ""
        print(f"{name:<{width}}  {entry.about}{marks}{'  <- default' if name == DEFAULT else ''}")
    return 0


def tasks(args: argparse.Namespace) -> int:
    """List the embedded tasks and which are prepared, or prepare them."""
    from foretune.tasks.embedded.prepare import EMBEDDED, prepare_all
    from foretune.tasks.loading import prepared_tasks

    if unknown := [n for n in args.names if n not in EMBEDDED]:
        raise BadInput(f"unknown task {unknown[0]!r}; there are {', '.join(EMBEDDED)}")
    if args.prepare or args.names:
        failed = prepare_all(args.names or list(EMBEDDED), args.data / "images", say=print)
        if failed:
            raise BadInput(
                "; ".join(f"{name} could not be prepared: {why}" for name, why in failed.items())
            )
        return 0
    ready = set(prepared_tasks(args.data))
    width = max(map(len, EMBEDDED))
    for name, entry in EMBEDDED.items():
        print(
            f"{name:<{width}}  {'prepared' if name in ready else '        '}  {entry.description}"
        )
    for name in sorted(ready - set(EMBEDDED)):
        print(f"{name:<{width}}  prepared  (your own)")
    return 0
