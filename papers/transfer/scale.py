"""Does a ranking of configurations that was found on few, small images hold on all images, at twice
the size? It decides how far the shipped history (48 px, 400 images, 10 epochs) may be trusted.

    python -m papers.transfer.scale --data DATA [--minutes M]     # trains what is missing, prints
    python -m papers.transfer.scale                               # prints what is there

Three tasks of about 2,000 images, read from their packages at 96 px; the 24 configurations of
`papers.light2.subtasks`, all of the shipped pool and of its ladder of rates; mobilenet_v2 with its
ImageNet weights, as in the shipped history:

| folder             | px | training images | epochs | steps | judged on     |
|--------------------|----|-----------------|--------|-------|---------------|
| `small`            | 48 | 400             | 10     | 130   | 300 images    |
| `large`            | 96 | all, 1,200      | 3      | 114   | all, 400      |

As many steps within a sixth, so that size and images are what differs. About 35 minutes of one
core, a part of the configurations first; it can be stopped or killed at any point, the same command
goes on. Figures are of the configurations that both scales have. Writes meta-datasets into `data/meta/scale`, and `data/reports/scale.csv`.

A value is a configuration's best epoch. **Regret** is the best value at large scale minus that of
the configuration that small scale puts first (or the best of its first three), in accuracy; beside
it that of the shipped history's own table of the same task (`shipped`: another draw of the source's
images, 10 epochs) and of one drawn at random. The **ceiling** of the correlation is what noise leaves:
the mean correlation of the large scale's values with themselves on other validation images of the
same number (binomial) and another seed (.02, `papers.hyperstar.ceiling`). Standard errors of a
task are a bootstrap over configurations, those of means over tasks are of three tasks.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.pipeline.meta_dataset import collect_on_processes
from foretune.recommenders.past import best_over_seeds
from foretune.running.collection import Block, Collection
from foretune.running.collector import Job
from foretune.shipped import LIGHT
from foretune.space.catalogue import transfer_space
from foretune.space.space import Space
from foretune.tasks.embedded.prepare import prepare
from foretune.tasks.task import Task
from foretune.training.recipe import Settings
from papers.command import command
from papers.light2.subtasks import configurations

TASKS = ("chest_xray_cause", "emoji_vendor", "solar_grade")
SIZE, MOST = 96, 2000  # pixels, images
SMALL = Settings()  # those of the shipped history (a test holds it)
LARGE = replace(SMALL, image_size=SIZE, train_limit=0, valid_limit=0, max_epoch=3)
SCALES = {"large": LARGE, "small": SMALL}
FEWEST = 6  # configurations that a ranking is judged by
STAGES = (12, 16, 20, 24)  # configurations that all tasks have before the next
SEED_DEVIATION = 0.02
DRAWS = 1000


def opened(out: Path, scale: str, tasks: Sequence[Task]) -> Collection:
    """The collection of one scale. Raises `BadInput` where `out` has curves of other images or of
    another trainer.
    """
    source = "trained by papers.transfer.scale"
    pool = configurations()
    found = Collection(out / scale, Space(transfer_space()), pool, SCALES[scale], source=source)
    for task in tasks:
        if different := found.describe(task.name, task.hash, task.source, task.licence):
            raise BadInput(f"{different}; name another folder")
    # what a value's noise follows from
    found.about["images"] = {task.name: len(task.part("valid")[1]) for task in tasks}
    found.save()
    return found


def missing(collection: Collection, stage: int) -> list[Block]:
    """Blocks of the first `stage` configurations in the collector's order, of one task and one
    depth each: they share what is frozen.
    """
    ids: dict[tuple[str, str], list[int]] = {}
    for block in collection.missing(TASKS, stage):
        for i in block.config_ids:
            key = str(collection.pool[i]["finetune"]), block.task
            ids.setdefault(key, []).append(i)
    return [Block(task, tuple(ids[depth, task])) for depth, task in sorted(ids)]


def collect(data: Path, out: Path, minutes: float) -> int:
    """Train what is missing for so many minutes; exit code as `collect_on_processes`."""
    end = time.monotonic() + 60 * minutes
    files = {name: prepare(name, data, SIZE, print, most=MOST) for name in TASKS}
    tasks = [Task.load(path) for path in files.values()]
    for stage, scale in product(STAGES, SCALES):
        collection = opened(out, scale, tasks)
        blocks, left = missing(collection, stage), end - time.monotonic()
        cells = sum(len(block.config_ids) for block in blocks)
        print(f"{scale}, {stage} configurations: {cells} cells", flush=True)
        job = Job(collection, files, blocks, 1, max(0.0, left))
        if status := collect_on_processes(job, partial(print, flush=True)):
            return status
    return 0


def values(meta: MetaDataset | None, task: str) -> np.ndarray:
    """The best value of each configuration of `configurations()`, (24,), NaN where there is none."""
    if meta is None or task not in meta.tasks:
        return np.full(len(configurations()), math.nan)
    best = dict(zip(meta.tasks, best_over_seeds(meta), strict=True))[task]
    at = [meta.configs.index(config) for config in configurations()]
    return np.asarray(best[at], dtype=float)


def regret(truth: np.ndarray, scores: np.ndarray, first: int = 1) -> float:
    """The best of `truth` minus the best among the `first` of `scores`."""
    chosen = np.argsort(-scores, kind="stable")[:first]
    return float(truth.max() - truth[chosen].max())


def ceiling(truth: np.ndarray, images: int, rng: np.random.Generator) -> float:
    """Mean Spearman correlation of `truth` with what other images and another seed would give."""
    noisy = truth + rng.normal(0, SEED_DEVIATION, (DRAWS, len(truth)))
    drawn = rng.binomial(images, noisy.clip(0, 1)) / images
    return float(np.mean([spearmanr(truth, one)[0] for one in drawn]))


def agreement(large: np.ndarray, other: np.ndarray, name: str) -> dict[str, float]:
    """How far the ranking by `other` values holds for the `large` ones, of the configurations that
    have both: Spearman's correlation with its bootstrap error, and regrets. `name` is in the keys.
    """
    both = np.flatnonzero(np.isfinite(large) & np.isfinite(other))
    if len(both) < FEWEST:
        return {}
    truth, scores = large[both], other[both]
    rng = np.random.default_rng(0)
    again = rng.integers(0, len(both), (DRAWS, len(both)))
    scattered = [spearmanr(truth[rows], scores[rows])[0] for rows in again]
    return {
        f"configurations_{name}": len(both),
        f"spearman_{name}": spearmanr(truth, scores)[0],
        f"spearman_error_{name}": float(np.nanstd(scattered)),
        f"regret_{name}": regret(truth, scores),
        f"regret_of_3_{name}": regret(truth, scores, 3),
    }


def row_of(
    task: str, large: np.ndarray, small: np.ndarray, shipped: np.ndarray, images: int
) -> dict[str, object]:
    """The figures of a task."""
    rng = np.random.default_rng(0)
    known = large[np.isfinite(large)]
    drawn = [regret(known, rng.random(len(known)), 3) for _ in range(DRAWS)]
    return {
        "task": task,
        **agreement(large, small, "small"),
        **agreement(large, shipped, "shipped"),
        "ceiling": ceiling(known, images, rng),
        "spread": float(known.max() - np.median(known)),
        "regret_random": float((known.max() - known).mean()),
        "regret_of_3_random": float(np.mean(drawn)),
        "image_error": math.sqrt(known.max() * (1 - known.max()) / images),
    }


def table_of(metas: Mapping[str, MetaDataset], images: Mapping[str, int]) -> pd.DataFrame:
    """A row a task, and one of their means with standard errors over tasks."""
    rows = [
        row_of(
            task, values(metas.get("large"), task), values(metas.get("small"), task),
            values(metas.get("shipped"), task), images[task],
        )
        for task in TASKS
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    figures = table.drop(columns="task")
    means = figures.mean().to_dict() | {"task": "mean"}
    errors = (figures.std(ddof=1) / math.sqrt(len(rows))).to_dict() | {"task": "standard error"}
    return pd.concat([table, pd.DataFrame([means, errors])], ignore_index=True)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Collect where images are given, then print and write the table; exit code 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m papers.transfer.scale")
    parser.add_argument(
        "--data", type=Path, help="folder for prepared images: train what is missing"
    )
    parser.add_argument("--out", type=Path, default=Path("data/meta/scale"))
    parser.add_argument("--reports", type=Path, default=Path("data/reports"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="start nothing after that")
    given = parser.parse_args(argv)
    if given.data is not None and (status := collect(given.data, given.out, given.minutes)):
        return status
    begun = [scale for scale in SCALES if (given.out / scale / "about.json").exists()]
    metas = {scale: MetaDataset.load(given.out / scale) for scale in begun}
    if "large" not in metas:
        raise BadInput(f"{given.out}: nothing is trained yet; give --data")
    images = {task: metas["large"].about["images"][task] for task in TASKS}
    table = table_of(metas | {"shipped": MetaDataset.load(LIGHT)}, images).round(4)
    write_atomic(given.reports / "scale.csv", table.to_csv(index=False))
    print(table.set_index("task").T.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
