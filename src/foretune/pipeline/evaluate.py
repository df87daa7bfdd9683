"""How the methods do on the meta-dataset that foretune trained itself: every task in turn is the
new one, the tasks of other sources are the past.

    python -m foretune.pipeline.evaluate [--params params.yaml]

Tasks that were cut from one source show much the same images, so they are never each other's past.
Methods replay the largest full grid (tasks x configurations) of the table, since cells that were
never trained would be held against the method that asks for them.

Writes `data/reports/light/summary.csv` (mean normalized regret at 1, 2, 5, ... full trainings and
its standard error over tasks), `tasks.csv` (by task), `about.json` (what was replayed), and the
steps in `data/reports/traces/light`, from which `papers.page.report` draws.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import regret_at, run_all
from foretune.files import write_atomic, write_json
from foretune.history.grid import full_grid, past_of
from foretune.history.meta_dataset import KEYS, MetaDataset
from foretune.params import Evaluate, load

TRAININGS = (1, 2, 5, 10)


def fingerprint(meta: MetaDataset, plan: Evaluate) -> str:
    """What decides the replays: the curves and the plan."""
    rows = meta.table.sort_values(KEYS)[[*KEYS, meta.metric]].to_csv(index=False)
    return hashlib.sha256(f"{rows}{meta.configs}{plan.trainings}".encode()).hexdigest()


def evaluate(
    meta: MetaDataset, plan: Evaluate, reports: Path | str, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """Replay `plan.methods` on the full grid of `meta` and write the tables; returns the summary.
    Runs that are there are not repeated.
    """
    grid, reports = full_grid(meta), Path(reports)
    out, traces = reports / meta.name, reports / "traces" / meta.name
    about = {
        "title": f"{meta.name}: trained by foretune, leave-one-source-out",
        "about": f"{len(grid.tasks)} image tasks x {len(grid)} configurations x "
        f"{grid.max_epoch} epochs",
        "max_epoch": grid.max_epoch,
        "tasks": grid.tasks,
        "fingerprint": fingerprint(grid, plan),
    }
    note = traces / "about.json"
    if traces.exists() and (
        not note.is_file()
        or json.loads(note.read_text()).get("fingerprint") != about["fingerprint"]
    ):
        shutil.rmtree(traces)
    write_json(note, about)
    say(f"replaying {', '.join(plan.methods)} on {about['about']}, {plan.seeds} seeds")
    with tempfile.TemporaryDirectory() as folder:
        grid.save(folder)
        steps = run_all(
            folder,
            traces,
            plan.methods,
            budget=plan.trainings * grid.max_epoch,
            seeds=plan.seeds,
            sources=past_of(grid),
            jobs=plan.workers,
        )
    counts = [k for k in TRAININGS if k <= plan.trainings]
    regret = regret_at(steps, [k * grid.max_epoch for k in counts]).set_axis(
        [str(k) for k in counts], axis=1
    )
    by_task = regret.groupby(["method", "task"]).mean()
    mean, error = by_task.groupby("method").mean(), by_task.groupby("method").sem()
    summary = pd.concat([mean, error.add_suffix(" se")], axis=1).loc[list(plan.methods)].round(4)
    write_atomic(out / "summary.csv", summary.to_csv())
    write_atomic(out / "tasks.csv", by_task.round(4).to_csv())
    write_json(out / "about.json", about)
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """The command of the DVC stage `evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.evaluate", description=main.__doc__
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--reports", type=Path, default=Path("data/reports"))
    given = parser.parse_args(argv)
    try:
        params = load(given.params)
        summary = evaluate(
            MetaDataset.load(params.meta_dataset.folder), params.evaluate, given.reports
        )
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
