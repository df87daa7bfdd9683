"""The ranking table: how well each recommender ranks configurations of an unseen task.

    python -m papers.hyperstar.rankings [--params params.yaml] [--minutes M] [--leave source,task]

Every task of the meta-dataset's full grid is held out in turn, with all tasks of its source, and
once more alone; each recommender is fitted on the others. A trial draws image batches of its own;
trial i uses training i mod `trainings`, since ten trainings of every network would cost hours.
Ablations of HyperSTAR share the choice of steps and strength that the plain one makes on each past
(`Entry.choice_of`). Truth is the best value over epochs.

What is done is kept in `.cache/rankings` by recommender and past: a run that was cut short goes on
where it stopped, and `--minutes` ends one early.

Writes, of the recommenders that are complete: `data/reports/rankings.parquet` (recommender, task,
trial, config_id, score) and, in `data/reports/rankings`, `tasks.csv` (AP@10, precision@10, top-1
regret by task, mean over trials), `summary.csv` (mean and standard error over tasks, and of the
difference to the task-agnostic list on the same tasks) and `figure5a.csv` (the best value after k =
1 .. 50 configurations in recommended order, as normalized regret and in the metric's unit, mean and
standard error over tasks; Tr-AutoML's ten trial runs come first). Tasks held out alone have the
same files in `data/reports/leave_one_task_out`.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.files import replace, write_atomic
from foretune.history.average_precision import (
    ap_at_k,
    ordered,
    precision_at_k,
    regret_after,
    top_regret,
)
from foretune.history.grid import folder_of, full_grid, held_out_together
from foretune.history.meta_dataset import KEYS, MetaDataset
from foretune.params import RankingsPlan, load
from foretune.recommenders.base import Recommender
from foretune.recommenders.described import TrAutoML, probes
from foretune.recommenders.past import best_over_seeds
from foretune.recommenders.registry import class_of, entry, recommender
from foretune.tasks.task import Task
from papers.command import command, resumable

LONGEST = 50  # configurations of Figure 5a
BASELINE = "task-agnostic"  # to which AP@10 is compared task by task
IMAGE_SEED = 1000  # trials' image batches are drawn from seeds from here on


@dataclass(frozen=True)
class Fold:
    """Tasks that are held out together and the past that they leave."""

    held_out: tuple[str, ...]
    past: tuple[str, ...]


def folds(meta: MetaDataset, leave: str = "source") -> list[Fold]:
    """Folds by source, or one a task.

    Raises `BadInput` for another word or where a fold would have no past.
    """
    return [Fold(held, tuple(past)) for held, past in held_out_together(meta, leave).items()]


@dataclass(eq=False)
class RankingTable:
    """The work: every recommender on every fold, kept in `work` as it is done."""

    meta: MetaDataset
    tasks: Mapping[str, Task]
    plan: RankingsPlan
    work: Path
    leave: str = "source"
    truth: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.truth = dict(zip(self.meta.tasks, best_over_seeds(self.meta), strict=True))
        self.folds = folds(self.meta, self.leave)
        rows = self.meta.table.sort_values(KEYS)[[*KEYS, self.meta.metric]].to_csv(index=False)
        images = [self.tasks[name].hash for name in self.meta.tasks]
        plan = (self.plan.trials, self.plan.trainings, self.plan.seed)
        self.key = hashlib.sha256(f"{rows}{self.meta.configs}{images}{plan}".encode()).hexdigest()[
            :16
        ]

    def part(self, name: str, fold: Fold) -> Path:
        """Where a finished fold is kept.

        Its name changes with the curves, the images, the plan and the recommender's options.
        """
        about = f"{self.key}{entry(name)}{fold}"
        return self.work / f"{name}-{hashlib.sha256(about.encode()).hexdigest()[:16]}.npz"

    def settled(self, name: str, fold: Fold) -> dict[str, float]:
        """What `name` chose by itself on this past (its fold is done first, if it must be)."""
        if not self.part(name, fold).is_file():
            self.run(name, fold)
        with np.load(self.part(name, fold), allow_pickle=False) as kept:
            return json.loads(str(kept["settled"]))

    def run(self, name: str, fold: Fold) -> None:
        """Fit, rank the held-out tasks in all trials, and keep the scores: (trials, n) by task."""
        past = self.meta.select(fold.past)
        shared = entry(name).choice_of
        options = self.settled(shared, fold) if shared else {}
        fitted: list[Recommender] = []
        for training in range(min(self.plan.trainings, self.plan.trials)):
            made = recommender(name, **(fitted[0].settled() if fitted else options))
            fitted.append(made.fit(past, self.tasks, seed=self.plan.seed + training))
        scores = {
            task: np.stack(
                [self._scores(fitted[i % len(fitted)], task, i) for i in range(self.plan.trials)]
            )
            for task in fold.held_out
        }
        with replace(self.part(name, fold)) as temporary, open(temporary, "wb") as stream:
            settled = np.array(json.dumps(fitted[0].settled()))
            np.savez(stream, settled=settled, **scores)  # type: ignore[arg-type]

    def _scores(self, fitted: Recommender, task: str, trial: int) -> np.ndarray:
        if isinstance(fitted, TrAutoML):
            return fitted.rank_given(lambda rows: self.truth[task][rows]).scores
        return fitted.rank(self.tasks[task], self.plan.seed + IMAGE_SEED + trial).scores

    def collect(self) -> dict[str, dict[str, np.ndarray]]:
        """Scores (trials, n) by recommender and task, of those whose folds are all done."""
        out: dict[str, dict[str, np.ndarray]] = {}
        for name in self.plan.recommenders:
            parts = [self.part(name, fold) for fold in self.folds]
            if all(path.is_file() for path in parts):
                out[name] = {}
                for path in parts:
                    with np.load(path, allow_pickle=False) as kept:
                        out[name] |= {task: kept[task] for task in kept.files if task != "settled"}
        return out


def fill(table: RankingTable, minutes: float = np.inf, say: Callable[[str], None] = print) -> bool:
    """Do what is missing, for at most about that many minutes; whether the table is complete."""
    started = time.monotonic()
    for name in table.plan.recommenders:
        clock, done = time.process_time(), 0
        for fold in table.folds:
            if table.part(name, fold).is_file():
                continue
            if time.monotonic() - started > 60 * minutes:
                say(f"{minutes:g} minutes are over; the next run goes on with {name}")
                return False
            table.run(name, fold)
            done += 1
        if done:
            say(f"{name}: {done} folds, {time.process_time() - clock:.1f} s of CPU")
    return True


def order_of(name: str, scores: np.ndarray, training: int) -> np.ndarray:
    """Rows in the order in which they would be trained: Tr-AutoML's trial runs come first."""
    order = ordered(scores)
    if class_of(name) is not TrAutoML:
        return order
    first = probes(len(scores), 10, training)
    return np.concatenate([first, order[~np.isin(order, first)]])


def judged(
    table: RankingTable, collected: Mapping[str, Mapping[str, np.ndarray]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By recommender and task, means over trials of the three figures and of the regrets.

    Regrets after k configurations are in long form.
    """
    rows, curves = [], []
    k = min(10, len(table.meta))
    for name, by_task in collected.items():
        for task in table.meta.tasks:
            truth, scores = table.truth[task], by_task[task]
            rows.append(
                {
                    "recommender": name,
                    "task": task,
                    "AP@10": np.mean([ap_at_k(s, truth, k) for s in scores]),
                    "precision@10": np.mean([precision_at_k(s, truth, k) for s in scores]),
                    "top-1 regret": np.mean([top_regret(s, truth) for s in scores]),
                }
            )
            regret = []
            for trial, s in enumerate(scores):
                order = order_of(
                    name, s, table.plan.seed + trial % min(table.plan.trainings, table.plan.trials)
                )
                rank = np.empty(len(order))
                rank[order] = -np.arange(len(order))
                regret.append(regret_after(rank, truth)[:LONGEST])
            mean, high, low = np.mean(regret, axis=0), np.nanmax(truth), np.nanmin(truth)
            curves += [
                {
                    "recommender": name,
                    "task": task,
                    "k": place + 1,
                    "regret": float(value),
                    "best value": float(reached),
                }
                for place, (value, reached) in enumerate(
                    zip(mean, (high - mean * (high - low)) * table.meta.sign, strict=True)
                )
            ]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def over_tasks(frame: pd.DataFrame, by: Sequence[str], order: Sequence[str]) -> pd.DataFrame:
    """Mean and standard error over tasks, recommenders in the given order."""
    grouped = frame.drop(columns="task").groupby(list(by))
    both = pd.concat([grouped.mean(), grouped.sem().add_suffix(" se")], axis=1)
    return both.loc[list(order)].round(4)


def write(table: RankingTable, reports: Path) -> pd.DataFrame:
    """Write the reports of what is complete; returns the summary.

    Raises `BadInput` where no recommender is complete.
    """
    found = table.collect()
    if not found:
        raise BadInput("no recommender is complete yet: run this again, with more --minutes")
    by_task, curves = judged(table, found)
    summary = over_tasks(by_task, ["recommender"], list(found))
    if BASELINE in found:
        gap = by_task.pivot(index="task", columns="recommender", values="AP@10")
        gap = gap.sub(gap[BASELINE], axis=0)
        summary[f"over {BASELINE}"] = gap.mean().round(4)
        summary[f"over {BASELINE} se"] = gap.sem().round(4)
    reports = folder_of(reports, table.leave)
    folder = reports / "rankings"
    ids = np.asarray(table.meta.config_ids, dtype=np.int32)
    frames = [
        pd.DataFrame(
            {
                "recommender": name,
                "task": task,
                "trial": np.repeat(np.arange(len(scores), dtype=np.int16), len(ids)),
                "config_id": np.tile(ids, len(scores)),
                "score": scores.astype(np.float32).ravel(),
            }
        )
        for name, by_name in found.items()
        for task, scores in sorted(by_name.items())
    ]
    with replace(reports / "rankings.parquet") as temporary:
        pd.concat(frames, ignore_index=True).to_parquet(temporary, index=False, compression="zstd")
    write_atomic(folder / "tasks.csv", by_task.set_index(["recommender", "task"]).round(4).to_csv())
    write_atomic(folder / "summary.csv", summary.to_csv())
    write_atomic(
        folder / "figure5a.csv", over_tasks(curves, ["recommender", "k"], list(found)).to_csv()
    )
    return summary


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command of the DVC stage `rankings`."""
    work = Path(".cache/rankings")
    parser = resumable(
        "papers.hyperstar.rankings",
        main.__doc__,
        work,
        "stop after about this time; run again to go on",
    )
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    given = parser.parse_args(argv)
    params = load(given.params)
    meta = full_grid(MetaDataset.load(params.meta_dataset.folder))
    tasks = {name: Task.load(given.images / f"{name}.npz") for name in meta.tasks}
    complete = True
    for leave in given.leave.split(","):
        table = RankingTable(meta, tasks, params.rankings, given.work, leave)
        print(
            f"{len(meta.tasks)} tasks x {len(meta)} configurations, leave one {leave} "
            f"out: {len(table.folds)} folds"
        )
        complete &= fill(table, given.minutes)
        print(write(table, given.reports).to_string())
    return 0 if complete else 3


if __name__ == "__main__":
    sys.exit(main())
