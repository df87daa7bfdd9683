"""`foretune import`: other tools' runs become history; published tables become meta-datasets."""

import argparse
import sys
from pathlib import Path
from typing import Any

from foretune.errors import BadInput, plural
from foretune.stores.registry import IMPORTERS, READERS, format_named

STORE = "imported"


def run(args: argparse.Namespace) -> int:
    """Import, and say what was found."""
    if args.format in IMPORTERS:
        return _published(args)
    name, address = (args.format, args.source) if args.source else ("auto", args.format)
    format_named(name)
    if args.target is not None:
        raise BadInput(
            f"DEST {args.target} is for published tables ({', '.join(IMPORTERS)}); runs go "
            "--into STORE"
        )
    if address in READERS and not args.source and not Path(address).exists():
        raise BadInput(
            f"give the file or folder that holds the runs: foretune import {address} SRC"
        )
    return _runs(args, name, address)


def _published(args: argparse.Namespace) -> int:
    from foretune.stores.registry import import_table

    if args.source is None or args.target is None:
        raise BadInput(
            f"{args.format} is a published table: give SRC and DEST, the folder to write"
        )
    target = Path(args.target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"DEST {target} exists and is not an empty folder; give a new one")
    meta = import_table(args.format, Path(args.source), target)
    print(
        f"{target}: {len(meta.tasks)} tasks, {len(meta)} configurations, "
        f"{meta.max_epoch} epochs, {len(meta.table)} rows of {meta.metric}"
    )
    return 0


def store_folder(args: argparse.Namespace) -> Path:
    """Where runs go: a path as it is, a name in DATA/history."""
    into = args.into or STORE
    if Path(into).name == into and not Path(into).is_dir():
        return Path(args.data) / "history" / into
    return Path(into)


def _runs(args: argparse.Namespace, name: str, address: str) -> int:
    from foretune.stores import mapping as mappings
    from foretune.stores.importing import import_runs
    from foretune.stores.registry import read_source

    given: dict[str, Any] = mappings.load(args.mapping) if args.mapping else {}
    folder = store_folder(args)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--into {folder} is a file; give a folder or a name")
    source = read_source(address, given.get("format", name) if name == "auto" else name)
    goal = _goal(args, source, given)
    if args.task:
        given = {**given, "task": f"={args.task}"}
    mapping = mappings.propose(source, goal, given)
    part, findings = import_runs(source, mapping)
    for line in findings.lines():
        print(line)
    if args.dry_run:
        print(f"nothing was written: --dry-run ({len(part)} {plural('run', len(part))})")
        return 0
    revise = bool(args.mapping or args.task or args.metric or args.goal)
    new = part.add_to(folder, revise=revise)
    if not len(new):
        print(f"stored   nothing new: {folder} holds all {len(part)} runs already")
        return 0
    written = folder / new.part_name()
    print(
        f"stored   {len(new)} new {plural('run', len(new))} in {written}; to read them in another "
        "way copy its mapping.yaml, edit it and give it with --mapping"
    )
    return 0


def _goal(args: argparse.Namespace, source: Any, given: dict[str, Any]) -> Any:
    """The metric; asked for at a terminal where it cannot be told."""
    from foretune.stores.metrics import choose, logged

    told = {key: given.get(key) for key in ("metric", "goal", "unit", "split")}
    told |= {key: value for key in ("metric", "goal") if (value := getattr(args, key))}
    try:
        return choose(source, **told)
    except BadInput:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise
        names = [name for name, _ in logged(source.records).most_common(20)]
        if not names:
            raise
    if not told["metric"]:
        print(f"the runs log: {', '.join(names)}")
        told["metric"] = input("which of them is to be judged by? ").strip()
    if not told["goal"]:
        answer = input(f"is more of {told['metric']} better? [y/n] ").strip().lower()
        told["goal"] = "maximize" if answer.startswith("y") else "minimize"
    return choose(source, **told)
