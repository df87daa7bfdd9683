"""What a study's unit does to its searcher: the past in one unit, the study in others.

The same task is told as the past tells it, times 100, times 1,000, as a loss (1 - value, to be
minimised), and as nobody would (5,000 + 37 value); the past stays as it is. Regret is normalized by
the task's own spread, so that a searcher that does not mind the unit has the same figures in every
row.

    python -m papers.transfer.units [--quick] [--every 3] [--trainings 1 2 5] [--tables lcbench ...]
        [--published tables]
    python -m papers.transfer.units [--method curve-transfer] --absurd 1e30

Every third task of a table in the order of its own list is replayed with the tasks of other sources
as its past, for 1, 2 and 5 full trainings. With `--absurd`, one past task also holds that value as
a loss, in one cell: figures in the row "absurd" should be those of the first. `data/reports/
units.csv` has a row a task; printed are means with standard errors, and the mean difference from
the first row with its 95 % interval (Student's t over tasks). `--quick` takes every eighth task for
one training.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from foretune.evaluation.replay import replay_study
from foretune.history.grid import full_grid, past_of
from foretune.history.meta_dataset import MetaDataset
from foretune.running.objectives.replay import Replay
from foretune.searchers.registry import DEFAULT, searcher
from foretune.shipped import LIGHT
from foretune.study.study import Study

TRAININGS = (1, 2, 5)
TABLES = ("hyperrec", "lcbench", "taskset", "light")
# value as the table has it -> value as the study is told; and whether the goal turns
UNITS: dict[str, tuple[Callable[[float], float], bool]] = {
    "as the past": (lambda v: v, False),
    "times 100": (lambda v: 100 * v, False),
    "times 1000": (lambda v: 1000 * v, False),
    "as a loss": (lambda v: 1 - v, True),
    "anyhow": (lambda v: 5000 + 37 * v, False),
}


def with_absurd_value(past: MetaDataset, loss: float) -> MetaDataset:
    """The past with `loss` as the last value of the first configuration of its first task."""
    columns = {name: np.array(column) for name, column in past.rows.columns.items()}
    part = past.rows.rows(past.tasks[0])
    cell = np.arange(len(columns["epoch"]))[part][-1]
    columns[past.metric][cell] = -past.sign * loss
    rows = replace(past.rows, columns=columns)
    return MetaDataset(past.space, past.config_ids, past.configs, rows, past.about)


def regrets(
    meta: MetaDataset,
    task: str,
    past: MetaDataset,
    unit: tuple[Callable[[float], float], bool],
    method: str = DEFAULT,
    trainings: Sequence[int] = TRAININGS,
) -> list[float]:
    """Normalized regret of `task`, told in `unit`, after each of so many full trainings."""
    convert, turned = unit
    plain, objective = replay_study(
        meta, task, budget=max(trainings) * meta.max_epoch, sources=past.tasks, method=method
    )
    goal = {"maximize": "minimize", "minimize": "maximize"}[meta.goal] if turned else meta.goal
    study = Study(meta.space, meta.configs, replace(plain.plan, goal=goal), past=past)
    return spent_on(study, objective, meta, method, convert, trainings)


def spent_on(
    study: Study,
    objective: Replay,
    meta: MetaDataset,
    method: str,
    convert: Callable[[float], float],
    trainings: Sequence[int],
) -> list[float]:
    """Run the study to its end; normalized regret after each of so many full trainings."""
    values = meta.curves(objective.task)
    best = np.where(np.isfinite(values), values, -np.inf).max(axis=1)
    best = best[np.isfinite(best)]
    after, incumbent = dict.fromkeys(trainings, 1.0), -np.inf
    chosen = searcher(method)
    while (step := study.ask(chosen)) is not None:
        outcome = objective.run(
            step.config_id, study.configs[step.config_id], step.start, step.stop
        )
        rows = [{**row, meta.metric: convert(row[meta.metric])} for row in outcome.rows]
        study.tell(step, rows)
        if outcome.failed:
            study.fail(step, int(study.epoch[step.config_id]), outcome.failed)
        reached = values[step.config_id, : int(study.epoch[step.config_id])]
        incumbent = max(incumbent, float(np.nanmax(reached, initial=-np.inf)))
        for k in trainings:
            if study.spent <= k * meta.max_epoch:
                after[k] = float(
                    np.clip((best.max() - incumbent) / max(np.ptp(best), 1e-12), 0.0, 1.0)
                )
    return list(after.values())


def summary(rows: list[dict[str, str | float]], trainings: Sequence[int]) -> None:
    """Print mean and standard error by unit, and the paired difference from the first unit."""
    keys = [f"regret {k}" for k in trainings]
    for table in dict.fromkeys(row["table"] for row in rows):
        by_unit = {
            unit: np.array(
                [
                    [float(row[k]) for k in keys]
                    for row in rows
                    if row["table"] == table and row["unit"] == unit
                ]
            )
            for unit in dict.fromkeys(row["unit"] for row in rows)
        }
        first = next(iter(by_unit.values()))
        n = len(first)
        print(f"{table}, {n} tasks" + "".join(f"{f'after {k}':>36}" for k in trainings))
        for unit, values in by_unit.items():
            mean, apart = values.mean(axis=0), values - first
            error = values.std(axis=0, ddof=1) / np.sqrt(n)
            half = stats.t.ppf(0.975, n - 1) * apart.std(axis=0, ddof=1) / np.sqrt(n)
            cells = (
                f"  {m:.4f} ± {e:.4f} ({d:+.4f} ± {h:.4f})"
                for m, e, d, h in zip(mean, error, apart.mean(axis=0), half, strict=True)
            )
            print(f"{unit:<20}" + "".join(f"{cell:>36}" for cell in cells))


def main() -> None:
    """Write the table and print its summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["lcbench"])
    parser.add_argument("--published", type=Path, default=Path("tables"), help="their folder")
    parser.add_argument("--units", nargs="+", choices=UNITS, default=list(UNITS))
    parser.add_argument("--every", type=int, default=3, help="every so many tasks one (default: 3)")
    parser.add_argument("--trainings", type=int, nargs="+", default=TRAININGS)
    parser.add_argument("--method", default=DEFAULT)
    parser.add_argument("--absurd", type=float, metavar="LOSS", help="as one value of the past")
    parser.add_argument("--into", type=Path, default=Path("data/reports/units.csv"))
    parser.add_argument("--quick", action="store_true", help="three tasks, one training")
    given = parser.parse_args()
    if given.quick:
        given.every, given.trainings = 8, (1,)
    rows: list[dict[str, str | float]] = []
    for table in given.tables:
        meta = full_grid(MetaDataset.load(LIGHT if table == "light" else given.published / table))
        sources = past_of(meta)
        for task in meta.tasks[:: given.every]:
            past = meta.select(sources[task])
            cases = {unit: (past, UNITS[unit]) for unit in given.units}
            if given.absurd:
                cases["absurd"] = with_absurd_value(past, given.absurd), UNITS["as the past"]
            for name, (known, unit) in cases.items():
                values = regrets(meta, task, known, unit, given.method, given.trainings)
                rows.append(
                    {"table": table, "method": given.method, "unit": name, "task": task}
                    | {
                        f"regret {k}": round(v, 6)
                        for k, v in zip(given.trainings, values, strict=True)
                    }
                )
                print("#", *rows[-1].values(), flush=True)
    given.into.parent.mkdir(parents=True, exist_ok=True)
    with given.into.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    summary(rows, given.trainings)


if __name__ == "__main__":
    main()
