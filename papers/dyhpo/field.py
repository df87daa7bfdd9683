"""The gray-box field side by side: regret, ranks, tests, what the epochs were spent on.

All from the steps that the benchmark keeps.

    python -m papers.dyhpo.field [lcbench taskset light] [--run]
        [--published tables] [--out data/reports/field]

Published tables are looked for in `--published`; one that is missing is skipped, saying so. With
`--run` the runs that are missing are made first (`evaluation.benchmark.run_all`: what is there is
not repeated). For each TABLE it writes into `--out`:

| file                  | rows                                                                     |
|-----------------------|--------------------------------------------------------------------------|
| `TABLE-regret.csv`    | method: mean normalized regret at each budget, its standard error over   |
|                       | tasks, tasks, repetitions                                                |
| `TABLE-odd.csv`       | as `regret`, on the tasks at odd places of the alphabet alone: on the    |
|                       | others the methods of our own were chosen                                |
| `TABLE-curves.csv`    | method, epochs: mean regret, and average rank among the methods on the   |
|                       | tasks that all of them ran                                               |
| `TABLE-clock.csv`     | method: regret at shares of the time that the whole budget takes without |
|                       | any decision, by seconds an epoch takes                                  |
| `TABLE-tests.csv`     | budget, pair of methods: mean difference, Wilcoxon p, Holm's p; the      |
|                       | Friedman test of the budget                                              |
| `TABLE-family.csv`    | the same for `FAMILY` alone, DyHPO's claim: six pairs instead of all     |
| `TABLE-BUDGET.svg`    | the critical-difference diagram at a budget                              |
| `TABLE-selection.csv` | method, epoch: configurations trained so far, precision of the top 1 %,  |
|                       | their mean regret, late bloomers                                         |

Our own table is cut to the configurations that every task has finished.
Methods that lack a task are compared on the tasks that all have (their number is in the files).
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import error_of, file_name, regret_at, run_all
from foretune.evaluation.statistics import Comparison, diagram, ranks
from foretune.files import write_atomic
from foretune.history.grid import full_grid
from foretune.history.meta_dataset import MetaDataset
from foretune.shipped import LIGHT
from papers.dyhpo.selection import profile

CHEAP = ("random", "sha", "hyperband", "asha", "bohb", "hyperband-gp", "dehb")
FAMILY = ("random", "hyperband", "dyhpo", "dyhpo+")
OPTIONS: dict[str, dict[str, Any]] = {  # labels of a method with options of its own
    "dyhpo:no-curve": {"curve": False},
    "dyhpo:predictive": {"posterior": "predictive"},
    "dyhpo:log": {"target": "log"},
    "dyhpo:predictive-log": {"posterior": "predictive", "target": "log"},
}
EPOCH_SECONDS = (0.1, 1.0, 10.0)  # how long an epoch takes, for the tables that do not say
SHARES = (0.2, 0.6, 1.0)  # of the wall-clock that the budget takes


@dataclass(frozen=True)
class FieldTable:
    """A meta-dataset and how the field runs on it: `repetitions` of each method.

    The model-based ones, which are slow, have fewer.
    """

    name: str
    folder: Path
    budget: int
    # folder of the steps; "light" holds the pipeline's own runs, which have past tasks and another
    # budget
    traces: str
    marks: tuple[int, ...]  # budgets of the table of regret
    tests: tuple[int, ...]  # budgets of the tests
    repetitions: Mapping[str, int] = field(default_factory=dict)


def tables(published: Path, own: Path) -> dict[str, FieldTable]:
    """The tables by name.

    Repetitions: ten of what costs nothing; of the others what two cores do in minutes.
    """
    cheap = dict.fromkeys(CHEAP, 10)
    slow = {"freeze-thaw": 10, "boca": 10, "dyhpo": 10, "dyhpo+": 10, "dyhpo:no-curve": 5}
    marks, tests = (51, 102, 255, 510, 1000), (200, 600, 1000)
    return {
        "lcbench": FieldTable(
            "lcbench", published / "lcbench", 1000, "lcbench", marks, tests, cheap | slow
        ),
        "taskset": FieldTable(
            "taskset", published / "taskset", 1000, "taskset", marks, tests, cheap | slow
        ),
        "light": FieldTable(
            "light", own, 200, "light-field", (10, 20, 50, 100, 200), (50, 100, 200), cheap | slow
        ),
    }


@contextmanager
def complete(table: FieldTable) -> Iterator[FieldTable]:
    """The table, or its full grid while some cells are still to be trained."""
    meta = MetaDataset.load(table.folder)
    curves = meta.Y()
    if (
        np.isfinite(curves[:, :, -1]) | np.stack([meta.failed(t).any(axis=1) for t in meta.tasks])
    ).all():
        yield table
        return
    with tempfile.TemporaryDirectory() as folder:
        full_grid(meta).save(Path(folder))
        yield replace(table, folder=Path(folder))


def run(table: FieldTable, traces: Path, methods: Sequence[str] | None = None) -> None:
    """Make the runs of a table that `traces` lacks."""
    for name, seeds in table.repetitions.items():
        if methods is None or name in methods:
            run_all(
                table.folder,
                traces,
                [name],
                budget=table.budget,
                seeds=seeds,
                options=OPTIONS,
                jobs=1,
            )


def read(traces: Path, methods: Sequence[str], budget: int) -> pd.DataFrame:
    """The steps of these methods' runs with this budget. Raises `BadInput` if there are none."""
    frames = []
    for name in methods:
        path = traces / f"{file_name(name)}.parquet"
        if path.is_file():
            frames.append(pd.read_parquet(path, filters=[("budget", "==", budget)]))
    if not frames or not sum(map(len, frames)):
        raise BadInput(f"{traces} holds no runs of {budget} epochs: run with --run first")
    return pd.concat(frames, ignore_index=True)


def summary(steps: pd.DataFrame, marks: Sequence[int]) -> pd.DataFrame:
    """Mean regret at each budget, its standard error, numbers of tasks and repetitions.

    Best at the last budget first; the error is over tasks.
    """
    regret = regret_at(steps, marks)
    per_task = regret.groupby(["method", "task"]).mean()
    mean = per_task.groupby("method").mean()
    counts = pd.DataFrame(
        {
            "tasks": per_task.groupby("method").size(),
            "repetitions": (
                regret.groupby("method").size() / per_task.groupby("method").size()
            ).round(1),
            "decision_ms": (1000 * steps.groupby("method")["seconds"].median()).round(2),
        }
    )
    out = pd.concat([mean.rename(columns=str), error_of(regret).add_suffix(" se"), counts], axis=1)
    return out.sort_values(str(marks[-1])).round(5)


def common(regret: pd.DataFrame) -> list[str]:
    """Tasks that every method of a `regret_at` table has run."""
    have = regret.groupby(["task", "method"]).size().unstack("method")
    return sorted(have.dropna().index)


def over_epochs(steps: pd.DataFrame, budget: int, points: int = 50) -> pd.DataFrame:
    """Mean regret and average rank against epochs, on the tasks that all methods have.

    Columns method, epochs, regret, rank.

    Repetitions are ranked by their mean per task, as in the tests.
    """
    at = sorted({int(b) for b in np.geomspace(1, budget, points).round()})
    regret = regret_at(steps, at)
    per_task = regret.groupby(["method", "task"]).mean()
    tasks = common(regret)
    frames = []
    for b in at:
        block = per_task[b].unstack("method").loc[tasks]
        frames.append(
            pd.DataFrame(
                {"epochs": b, "regret": block.mean(), "rank": ranks(block).mean()}
            ).rename_axis("method")
        )
    return pd.concat(frames).reset_index().sort_values(["method", "epochs"], ignore_index=True)


def wall_clock(
    steps: pd.DataFrame, budget: int, epoch_seconds: Sequence[float] = EPOCH_SECONDS
) -> pd.DataFrame:
    """Mean regret at shares of the time that `budget` epochs take, decisions included.

    Rows method, columns (seconds per epoch, share).

    1 means the time of all epochs without a decision, so a method that thinks long does not get to
    its last epochs.
    """
    thinking = steps.groupby(["method", "task", "seed"], sort=False)["seconds"].cumsum()
    out = {}
    for seconds in epoch_seconds:
        clock = steps.assign(spent=steps["spent"] * seconds + thinking)
        at = regret_at(clock, np.multiply(SHARES, budget * seconds).tolist())
        mean = at.groupby(["method", "task"]).mean().groupby("method").mean()
        for share, column in zip(SHARES, mean.columns, strict=True):
            out[f"{seconds:g} s, {share:g}"] = mean[column]
    return pd.DataFrame(out).round(5)


def compare(steps: pd.DataFrame, budget: int) -> tuple[Comparison, int]:
    """The methods compared at a budget on the tasks that all have, and how many these are."""
    regret = regret_at(steps, [budget])
    tasks = common(regret)
    return Comparison.of(
        regret[budget].groupby(["task", "method"]).mean().unstack("method").loc[tasks]
    ), len(tasks)


def tests_of(comparison: Comparison, budget: int, tasks: int) -> pd.DataFrame:
    """The pairs of a comparison as rows, with the Friedman test beside them."""
    pairs = comparison.pairs.assign(budget=budget, tasks=tasks, friedman_p=comparison.p)
    pairs["rank_a"] = pairs["a"].map(comparison.ranks)
    pairs["rank_b"] = pairs["b"].map(comparison.ranks)
    return pairs


def evaluate(
    table: FieldTable, traces: Path, out: Path, methods: Sequence[str] | None = None
) -> pd.DataFrame:
    """Write all files of a table; returns the summary. Raises `BadInput` if there are no runs."""
    names = [m for m in table.repetitions if methods is None or m in methods]
    steps = read(traces, names, table.budget)
    result = summary(steps, table.marks)
    write_atomic(out / f"{table.name}-regret.csv", result.to_csv())
    odd = sorted(steps["task"].unique())[1::2]
    if odd:
        write_atomic(
            out / f"{table.name}-odd.csv",
            summary(steps[steps["task"].isin(odd)], table.marks).to_csv(),
        )
    write_atomic(
        out / f"{table.name}-curves.csv",
        over_epochs(steps, table.budget).round(5).to_csv(index=False),
    )
    write_atomic(out / f"{table.name}-clock.csv", wall_clock(steps, table.budget).to_csv())
    frames, family = [], []
    if steps["method"].nunique() > 2 and len(common(regret_at(steps, [table.budget]))) > 1:
        for budget in table.tests:
            comparison, tasks = compare(steps, budget)
            frames.append(tests_of(comparison, budget, tasks))
            if set(FAMILY) <= set(steps["method"]):
                own, tasks = compare(steps[steps["method"].isin(FAMILY)], budget)
                family.append(tests_of(own, budget, tasks))
            title = f"{table.name}, {budget} epochs, {tasks} tasks"
            write_atomic(out / f"{table.name}-{budget}.svg", diagram(comparison, title))
        for name, found in (("tests", frames), ("family", family)):
            if found:
                write_atomic(
                    out / f"{table.name}-{name}.csv", pd.concat(found).round(6).to_csv(index=False)
                )
    chosen = profile(steps, MetaDataset.load(table.folder))
    write_atomic(out / f"{table.name}-selection.csv", chosen.round(4).to_csv(index=False))
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate from the command line; prints each table's regret."""
    parser = argparse.ArgumentParser(prog="python -m papers.dyhpo.field", description=main.__doc__)
    parser.add_argument("tables", nargs="*", default=["lcbench", "taskset", "light"])
    parser.add_argument(
        "--published",
        type=Path,
        default=Path("tables"),
        help="folder of lcbench and taskset",
    )
    parser.add_argument("--own", type=Path, default=LIGHT)
    parser.add_argument("--traces", type=Path, default=Path("data/reports/traces"))
    parser.add_argument("--out", type=Path, default=Path("data/reports/field"))
    parser.add_argument("--methods", help="names, separated by commas; default: all of the field")
    parser.add_argument("--run", action="store_true", help="make the runs that are missing")
    args = parser.parse_args(argv)
    known = tables(args.published, args.own)
    methods = args.methods.split(",") if args.methods else None
    for name in args.tables:
        if name not in known:
            raise BadInput(f"unknown table {name!r}; there are {', '.join(known)}")
        table = known[name]
        if not (table.folder / "curves.parquet").is_file():
            print(f"{name}: skipped, {table.folder} is not there")
            continue
        if args.run:
            run(table, args.traces / table.traces, methods)
        print(
            f"\n{name}: normalized "
            f"regret\n{evaluate(table, args.traces / table.traces, args.out, methods).to_string()}"
        )


if __name__ == "__main__":
    main()
