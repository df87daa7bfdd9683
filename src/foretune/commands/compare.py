"""`foretune compare`: studies beside each other."""

import argparse
import json
from dataclasses import asdict

from foretune.commands.cli import check_output
from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.running.studies import find_study
from foretune.space.parameters import plain
from foretune.study.study import Study
from foretune.views.comparison import compare, comparison_page, table


def run(args: argparse.Namespace) -> int:
    """Print the table, and write the page if one is asked for."""
    check_output(args.out)
    folders = [find_study(name, args.data) for name in args.studies]
    studies: dict[str, Study] = {}
    for k, folder in enumerate(folders):
        if any(folder.samefile(other) for other in folders[:k]):
            raise BadInput(f"study {args.studies[k]!r} is named twice")
        shown = str(folder) if folder.name in studies else folder.name
        studies[shown] = Study.load(folder)
    rows = compare(studies)
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=1, default=plain))
    else:
        lines = table(studies)
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        for line in lines:
            cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
    if args.out:
        write_atomic(args.out, comparison_page(studies))
        if not args.json:
            print(f"page: {args.out}")
    return 0
