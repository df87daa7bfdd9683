"""Collect a plan of `papers.light2.subtasks`: the gate, or light2, of which it is a part.

    python -m papers.light2.collect --data DATA [--plan gate|light2] [--out data/meta/PLAN]
        [--workers 1] [--minutes M]

The gate trains 24 configurations on 24 sub-tasks, and a tenth of the cells once more with another
seed: about three and a half core-hours. light2 trains 54 configurations on 64 sub-tasks, then the
better half of each task's with another seed: about 24 core-hours, less what the gate (`--gate`,
default: data/meta/gate) has of them already.

Prepares the sub-tasks in DATA (packages are fetched, about 400 MB, once), then trains what is
missing. It can be stopped or killed at any point; the same command goes on, and loses at most the
trial under way. The first configurations are trained on all sub-tasks before the next, so that the
table can be read early.

Writes a meta-dataset; `about.json` has beside the usual the `factors` of each sub-task (also in
`factors.csv`), the `epochs` of each sub-task's trials and the configurations trained twice
(`again`). What is there is first trained again in part (`foretune.pipeline.retraining`), as of
another trainer or of other images no cell may be added.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.pipeline.retraining import check
from foretune.running.collection import METRIC, Block, Collection
from foretune.space.catalogue import transfer_space
from foretune.space.space import Space
from foretune.tasks.task import Task
from foretune.training.recipe import TRAINING_VERSION, Settings
from papers.command import collect, collecting, command, say
from papers.light2.gate import settled_best
from papers.light2.subtasks import (
    BATCH,
    LEAST_EPOCHS,
    MORE_SOURCES,
    SOURCES,
    VALIDATION,
    all_configurations,
    configurations,
    draw_factors,
    prepare_subtasks,
    table_row,
)

META = Path("data/meta")
# configurations, in the collector's order, that all sub-tasks have before the next
STAGES = {"gate": (12, 24), "light2": (12, 24, 54)}
AGAIN = 0.1  # of the gate's cells, drawn by chance, are trained with seed 1 as well
BETTER = 0.5  # of light2's configurations, of each task those that came to most, are
SETTINGS = Settings(batch_size=BATCH, train_limit=0, valid_limit=VALIDATION, max_epoch=LEAST_EPOCHS)


def trained_again(tasks: Sequence[str], configs: int) -> dict[str, list[int]]:
    """Configurations of each task that are trained with seed 1 too: a tenth of all cells."""
    cells = np.random.default_rng(1).permutation(len(tasks) * configs)
    chosen = sorted(cells[: round(AGAIN * len(cells))].tolist())
    return {t: [c % configs for c in chosen if c // configs == i] for i, t in enumerate(tasks)}


def open_plan(
    plan: str, out: Path, facts: pd.DataFrame, tasks: Sequence[Task], seed: int
) -> Collection:
    """The collection of one seed. Raises `BadInput` where `out` has curves of other images, another
    plan or another trainer.
    """
    names = facts["task"].tolist()
    pool = configurations() if plan == "gate" else all_configurations()
    epochs = dict(zip(names, facts["epochs"].tolist(), strict=True))
    source = "trained by papers.light2.collect"
    table = Collection(
        out, Space(transfer_space()), pool, SETTINGS, seed=seed, source=source, epochs=epochs
    )
    for task in tasks:
        if different := table.describe(task.name, task.hash, task.source, task.licence):
            raise BadInput(f"{different}; name another folder")
    rows = facts.drop(columns=["task", "epochs"]).to_dict("records")
    table.about["factors"] = dict(zip(names, rows, strict=True))
    if plan == "gate":
        table.about["again"] = trained_again(names, len(pool))
    return table


def take_over(table: Collection, gate: Path) -> int:
    """Take the gate's cells into an empty light2, whose first configurations are the gate's; how
    many there were. Raises `BadInput` where they are of other images or another trainer.
    """
    if len(table.table) or not (gate / "about.json").exists():
        return 0
    have = MetaDataset.load(gate)
    if have.about.get("training_version", 1) != TRAINING_VERSION:
        raise BadInput(f"{gate} is of another version of the trainer: name another with --gate")
    if have.configs != table.pool[: len(have.configs)]:
        raise BadInput(f"{gate} is of other configurations: name another with --gate")
    for task in have.tasks:
        if have.about["hashes"][task] != table.about["hashes"].get(task):
            raise BadInput(f"{gate} has {task} of other images: name another with --gate")
    table.about["kinds"] = have.about.get("kinds", ["unknown"])
    table.add(have.table.to_dict("records"))  # type: ignore[arg-type]
    table.save()
    return len(have.table.groupby(["task", "config_id", "seed"]))


def better(table: Collection) -> dict[str, list[int]]:
    """Of each task that has all configurations of `table`'s seed the better half, by what they settle at
    (`papers.light2.gate.settled_best`); one that diverged comes last.
    """
    done = table.finished()
    rows = table.table[table.table["seed"] == table.seed].set_index(["task", "config_id", "epoch"])[
        METRIC
    ]
    out = {}
    for task in table.epochs:
        if not all((task, i) in done for i in range(len(table.pool))):
            continue
        curves = rows[task].unstack().reindex(range(len(table.pool)))
        diverged = rows[task].isna().groupby("config_id").any().to_numpy()
        values = np.where(diverged, -np.inf, settled_best(curves.to_numpy(dtype=float)))
        best = np.argsort(-values, kind="stable")[: round(BETTER * len(values))]
        out[task] = sorted(best.tolist())
    return out


def missing(table: Collection, stage: int, again: Mapping[str, Sequence[int]]) -> list[Block]:
    """Blocks of the first `stage` configurations; with seed 1, of those that are trained `again`."""
    blocks = table.missing(list(table.epochs), stage)
    if table.seed == 0:
        return blocks
    kept = [
        Block(b.task, tuple(i for i in b.config_ids if i in again.get(b.task, ()))) for b in blocks
    ]
    return [block for block in kept if block.config_ids]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Prepare and collect; exit code 0 when all is there, 130 when stopped, 2 on bad input."""
    parser = collecting("papers.light2.collect", "folder for prepared images", None)
    parser.add_argument("--plan", choices=STAGES, default="gate", help="what to collect")
    parser.add_argument("--gate", type=Path, default=META / "gate", help="light2 begins with this")
    given = parser.parse_args(argv)
    plan, out = given.plan, given.out or META / given.plan
    end = time.monotonic() + given.minutes * 60
    sources = SOURCES if plan == "gate" else (*SOURCES, *MORE_SOURCES)
    files = prepare_subtasks(given.data, sources, say)
    tasks = [Task.load(path) for path in files.values()]
    factors = [one for parent in sources for one in draw_factors(parent)]
    facts = pd.DataFrame([table_row(t, one) for t, one in zip(tasks, factors, strict=True)])
    first = open_plan(plan, out, facts, tasks, 0)
    if plan == "light2" and (taken := take_over(first, given.gate)):
        say(f"{taken} cells are the gate's")
    if wrong := check(first, files, say=say):
        raise BadInput(wrong)
    write_atomic(out / "factors.csv", facts.to_csv(index=False))
    stages = STAGES[plan]
    rounds = (
        product(stages, (0, 1)) if plan == "gate" else [*product(stages, (0,)), (stages[-1], 1)]
    )

    def tables() -> Iterator[tuple[str, Collection, list[Block]]]:
        for stage, seed in rounds:
            table = open_plan(plan, out, facts, tasks, seed)
            if plan == "light2" and seed == 1:
                table.about["again"] = better(open_plan(plan, out, facts, tasks, 0))
            again = table.about.get("again", {})
            yield f"seed {seed}, {stage} configurations", table, missing(table, stage, again)

    return collect(tables(), files, given.workers, end)


if __name__ == "__main__":
    sys.exit(main())
