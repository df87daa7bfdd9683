"""`foretune studies` and `foretune report`."""

import argparse
import sys

from foretune.errors import BadInput
from foretune.running.studies import all_studies, find_study
from foretune.study.study import Study
from foretune.views.summary import decimals


def status(study: Study) -> str:
    """What can be said of a study in a word."""
    if study.done:
        return "finished"
    return "paused" if study.spent else "empty"


def studies(args: argparse.Namespace) -> int:
    """A line per study."""
    folders = all_studies(args.data)
    if not folders:
        print(f"no studies in {args.data / 'studies'} yet; start one with: foretune tune IMAGES")
        return 0
    rows = [("study", "task", "method", "epochs", "trials", "best", "status")]
    for folder in folders:
        try:
            study = Study.load(folder)
        except BadInput as error:  # one damaged study does not hide the others
            print(f"foretune studies: {error}", file=sys.stderr)
            continue
        best = decimals(study.plan.sign * study.incumbent[2]) if study.incumbent else "-"
        cap = study.plan.budget
        counts = (f"{study.spent}{'' if cap is None else f'/{cap}'}", str(len(study.started)))
        rows.append((folder.name, study.plan.task, study.plan.method, *counts, best, status(study)))
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def report(args: argparse.Namespace) -> int:
    """Write a study's report."""
    from foretune.commands.study_report import write_study_report

    folder = find_study(args.study, args.data)
    print(write_study_report(folder, args.out))
    return 0
