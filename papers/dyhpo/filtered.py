"""DyHPO on TaskSet as its authors ran it: without the configurations that they filter out, and with
the options in which their code differs from their text.

    python -m papers.dyhpo.filtered TABLE [--run] [--repetitions 2] [--budget 255]

TABLE is the meta-dataset of TaskSet's losses (`foretune.stores.taskset`). The published filter
keeps a task's configurations whose loss is a number in every epoch and below the lowest, over the
epochs, of the 95 % quantiles of the loss among configurations. The other tables of the field have
all 1,000 as candidates. Regret is normalised among those that are kept, so its figures and those
of the other tables are not of one scale.

With `--run` the runs that are missing are made first. Steps are kept in
`data/reports/traces/taskset-filtered`; written to `data/reports/field`:

| file                          | rows                                                             |
|-------------------------------|------------------------------------------------------------------|
| `taskset-filtered.csv`        | method: mean normalized regret at each budget, its standard      |
|                               | error over tasks, tasks, repetitions, ms of a decision           |
| `taskset-filtered-tests.csv`  | baseline, budget, method: mean difference by task, its 95 %      |
|                               | interval, Wilcoxon's p, Holm's among the methods                 |
| `taskset-filtered-tasks.csv`  | task: configurations kept of all, mean regret of each method at  |
|                               | the last budget                                                  |
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import regret_at, run_all
from foretune.evaluation.statistics import against
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from papers.command import command
from papers.dyhpo.field import OPTIONS, common, read, summary

METHODS = (
    "random",
    "hyperband",
    "dyhpo",
    "dyhpo:predictive",
    "dyhpo:log",
    "dyhpo:predictive-log",
    "dyhpo+",
)
BASELINES = ("random", "hyperband", "dyhpo")
MARKS = (51, 102, 200, 255, 600, 1000)
QUANTILE = 0.95


def kept(losses: np.ndarray) -> np.ndarray:
    """Which configurations the published filter keeps, (n,) bool, of `losses` (n, E)."""
    with np.errstate(invalid="ignore"):
        highest = np.nanquantile(losses, QUANTILE, axis=0).min()
        return np.isfinite(losses).all(axis=1) & (losses < highest).all(axis=1)


def filtered(meta: MetaDataset, task: str) -> MetaDataset:
    """A task on its own, with the configurations that the filter keeps.

    Raises `BadInput` for a metric that is no loss.
    """
    if meta.sign > 0:
        raise BadInput(f"{meta.name}: the published filter is one of losses, not of {meta.metric}")
    rows = np.flatnonzero(kept(-meta.curves(task)))
    ids = [meta.config_ids[row] for row in rows]
    table = meta.table
    table = table[(table["task"] == task) & table["config_id"].isin(ids)]
    configs = dict(zip(ids, [meta.configs[row] for row in rows], strict=True))
    about = {**meta.about, "tasks": [task], "max_epoch": meta.max_epoch}
    return MetaDataset.build(meta.space, configs, table, **about)


def run(
    meta: MetaDataset, traces: Path, methods: Sequence[str], budget: int, repetitions: int
) -> None:
    """Make the runs that `traces` lacks, task by task."""
    for task in meta.tasks:
        with tempfile.TemporaryDirectory() as folder:
            filtered(meta, task).save(folder)
            run_all(
                folder,
                traces,
                methods,
                budget=budget,
                seeds=repetitions,
                tasks=[task],
                options=OPTIONS,
                jobs=1,
            )


def tests(steps: pd.DataFrame, marks: Sequence[int]) -> pd.DataFrame:
    """Each of `BASELINES` against all other methods, by task, at each budget."""
    per_task = regret_at(steps, marks).groupby(["task", "method"]).mean()
    found = {}
    for name in BASELINES:
        for mark in marks:
            block = per_task[mark].unstack("method")
            if name in block:
                found[name, mark] = against(block, name)
    return pd.concat(found, names=["baseline", "budget"])


def by_task(meta: MetaDataset, steps: pd.DataFrame, mark: int) -> pd.DataFrame:
    """Configurations kept and regrets at budget `mark`, a row a task."""
    regret = regret_at(steps, [mark])[mark].groupby(["task", "method"]).mean().unstack("method")
    count = [int(kept(-meta.curves(task)).sum()) for task in regret.index]
    return pd.concat(
        [pd.DataFrame({"kept": count, "all": len(meta)}, index=regret.index), regret], axis=1
    )


def write(meta: MetaDataset, traces: Path, out: Path, methods: Sequence[str], budget: int) -> str:
    """Write the tables of the table's tasks that every method has run; returns the summary as
    text. Raises `BadInput` if there are none.
    """
    steps = read(traces, methods, budget)
    steps = steps[steps["task"].isin(meta.tasks)]
    steps = steps[steps["task"].isin(common(regret_at(steps, [budget])))]
    marks = [mark for mark in MARKS if mark <= budget]
    table = summary(steps, marks)
    write_atomic(out / "taskset-filtered.csv", table.to_csv())
    write_atomic(out / "taskset-filtered-tests.csv", tests(steps, marks).round(5).to_csv())
    write_atomic(
        out / "taskset-filtered-tasks.csv", by_task(meta, steps, marks[-1]).round(5).to_csv()
    )
    return table.to_string()


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run DyHPO and its variants on the filtered tasks, and write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.dyhpo.filtered", description=main.__doc__
    )
    parser.add_argument("table", type=Path, help="folder of TaskSet's meta-dataset")
    parser.add_argument("--traces", type=Path, default=Path("data/reports/traces/taskset-filtered"))
    parser.add_argument("--out", type=Path, default=Path("data/reports/field"))
    parser.add_argument("--methods", default=",".join(METHODS), help="names, separated by commas")
    parser.add_argument("--budget", type=int, default=255)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--run", action="store_true", help="make the runs that are missing")
    given = parser.parse_args(argv)
    meta, names = MetaDataset.load(given.table), given.methods.split(",")
    if given.run:
        run(meta, given.traces, names, given.budget, given.repetitions)
    print(write(meta, given.traces, given.out, names, given.budget))


if __name__ == "__main__":
    sys.exit(main())
