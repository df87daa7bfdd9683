"""Fit the recommenders on the user's own finished studies too, beside the meta-dataset that ships.

    python -m foretune.running.meta_train [--params params.yaml] [--data data]

Without a params.yaml the defaults hold: the history and the recommender that come with foretune.

A model of one's own lies in `data/own_models/NAME` and is preferred by `foretune recommend` and
`foretune tune`; the shipped one stays as it is. A study counts once it was finished, with the
settings of the meta-dataset and at least `FEWEST` of its configurations; its images are those that
it keeps. Of the configurations that it has not trained, or not to the end, it takes what
`foretune.searchers.transfer.past_curves` forecasts from the others of this study and from the other
tasks. A recommender has no holes, and what was never tried must not count as bad. Which values were
measured is kept in `own.json`, so that no forecast is shown as a result.

Shapes: T tasks, n configurations of the meta-dataset's grid, E epochs.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from foretune.errors import BadInput
from foretune.history.curve_table import CurveTable
from foretune.history.grid import full_grid
from foretune.history.join import join, joinable
from foretune.history.meta_dataset import MetaDataset
from foretune.params import Params
from foretune.params import load as load_params
from foretune.recommenders.own import FOLDER, Own, settings_of
from foretune.recommenders.registry import load, recommender
from foretune.searchers.transfer.past_curves import past_curves
from foretune.shipped import find, need
from foretune.space.space import config_key
from foretune.study.notes import notes_of
from foretune.study.own_studies import own_studies
from foretune.study.study import Plan, Study
from foretune.tasks.task import Task

FEWEST = 3  # configurations that a study must have trained to say anything about the others


def images_of(studies: Path) -> dict[str, Path]:
    """Hash of the images -> the file that holds them, of each finished study under `studies`: one
    that has handed its best network over.
    """
    found: dict[str, Path] = {}
    for file in sorted(studies.glob("*/study.json")):
        try:
            images = notes_of(file).task_hash
        except BadInput:
            continue  # `foretune doctor` names it; one damaged study must not stop the others
        kept = file.with_name("task.npz")
        if images is not None and file.with_name("best.yaml").is_file() and kept.is_file():
            found.setdefault(images, kept)
    return found


def finished_studies(meta: MetaDataset, studies: Path) -> tuple[list[MetaDataset], dict[str, Task]]:
    """The finished studies that can stand beside `meta`, and their images by task; those of a task
    that `meta` has bring nothing new.
    """
    files = images_of(studies)
    shipped = {meta.about.get("hashes", {}).get(task) for task in meta.tasks}
    found, tasks = [], {}
    for trained in own_studies(studies, settings_of(meta)):
        name = trained.tasks[0]
        images = str(trained.about["hashes"][name])
        if images in shipped or images not in files or not joinable(trained, meta):
            continue
        study = of_one_seed(trained)
        if len(known_to(study, meta)) < FEWEST:
            continue
        try:
            task = Task.load(files[images])
        except BadInput:
            continue
        if task.hash == images:
            found.append(study)
            tasks[name] = replace(task, name=name, source=name)
    return found, tasks


def of_one_seed(study: MetaDataset) -> MetaDataset:
    """The curves of all seeds as those of seed 0; `history.join` keeps the first of two values of
    one cell.
    """
    columns = {**study.rows.columns, "seed": np.zeros_like(study.rows.columns["seed"])}
    rows = CurveTable(study.rows.tasks, study.rows.task, columns)
    return MetaDataset(study.space, study.config_ids, study.configs, rows, study.about)


def known_to(study: MetaDataset, grid: MetaDataset) -> list[int]:
    """Ids in `grid` of its configurations of which the study has a value."""
    seen = np.isfinite(study.best(study.tasks)[0])
    ids = {config_key(c): i for i, c in zip(grid.config_ids, grid.configs, strict=True)}
    keys = [config_key(c) for c, known in zip(study.configs, seen, strict=True) if known]
    return sorted(ids[key] for key in keys if key in ids)


def with_studies(
    grid: MetaDataset, studies: Sequence[MetaDataset]
) -> tuple[MetaDataset, dict[str, tuple[int, ...]]]:
    """`grid`, all configurations finished on all tasks, and each study as one more task with its
    holes forecast; and the ids that it trained to the end.

    A study's row holds its best values at the last epoch. Raises `BadInput` where a study cannot
    stand beside the grid.
    """
    import pandas as pd

    if not studies:
        return grid, {}
    joined = join([grid, *studies], grid.name)
    plan = Plan(task="", metric=grid.metric, goal=grid.goal, max_epoch=grid.max_epoch, budget=1)
    curves = past_curves(Study(grid.space, grid.configs, plan, past=joined))
    pool = slice(0, curves.pool)
    filled = curves.location[:, None, None] + curves.scale[:, None, None] * curves.Z  # (T, n, E)
    rows = {
        name: filled[curves.tasks.index(name), pool].max(axis=1)
        for study in studies
        for name in study.tasks
    }
    measured = {}
    for name in rows:
        ends, failed = joined.curves(name)[pool, -1], joined.failed(name)[pool].any(axis=1)
        measured[name] = tuple(
            int(i) for i in np.array(grid.config_ids)[np.isfinite(ends) & ~failed]
        )
    own = [
        pd.DataFrame(
            {
                "task": name,
                "config_id": grid.config_ids,
                "seed": 0,
                "epoch": grid.max_epoch,
                grid.metric: grid.sign * best,
            }
        )
        for name, best in rows.items()
    ]
    about = {**joined.about, "tasks": [*grid.tasks, *rows], "max_epoch": grid.max_epoch}
    configs = dict(zip(grid.config_ids, grid.configs, strict=True))
    return MetaDataset.build(
        grid.space, configs, pd.concat([grid.table, *own], ignore_index=True), **about
    ), measured


def train(
    meta: MetaDataset,
    images: Mapping[str, Task],
    names: Sequence[str],
    data: Path,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Fit the named recommenders on `meta`, with its tasks' `images`, and the finished studies in
    `data`; the past tasks that are studies.

    What a shipped recommender chose by itself (`Recommender.settled`) is kept: forecasts are no
    evidence for such a choice. Without a finished study, models of earlier ones are removed. Raises
    `BadInput`.
    """
    grid = full_grid(meta)
    studies, own_images = finished_studies(grid, data / "studies")
    folder = data / FOLDER
    if not studies:
        say(
            f"own studies: none in {data / 'studies'} is finished and has the settings of "
            f"{meta.name}; nothing to fit"
        )
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)
        return []
    joined, measured = with_studies(grid, studies)
    hashes = {task: own_images[task].hash for task in measured}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        for name in names:
            chosen = load(shipped).settled() if (shipped := find("models", name, data)) else {}
            fitted = recommender(name, **chosen).fit(joined, {**images, **own_images}, seed)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
                new = Path(temporary) / name
                fitted.save(new)
                Own(hashes, measured, settings_of(meta)).save(new)
                shutil.rmtree(folder / name, ignore_errors=True)
                new.rename(folder / name)
            trained = sum(len(ids) for ids in measured.values())
            say(
                f"{name}: {len(grid.tasks)} tasks and {len(studies)} own studies x "
                f"{len(grid)} configurations "
                f"({trained} of the studies' trained to the end, the others forecast)"
            )
    return list(measured)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit models of one's own from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m foretune.running.meta_train", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--params", type=Path, help="default: params.yaml, if there is one, else the defaults"
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    given = parser.parse_args(argv)
    try:
        here = Path("params.yaml")
        fit(given.params or (here if here.exists() else None), given.data)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def fit(params: Path | None, data: Path, say: Callable[[str], None] = print) -> list[str]:
    """What the command does: the recommenders of `params.yaml`, on the meta-dataset of its name as
    `foretune tune` finds it and the studies in `data`; the past tasks that are studies.
    """
    plan = Params() if params is None else load_params(params)
    meta = MetaDataset.load(need("meta", Path(plan.meta_dataset.folder).name, data))
    # the images are read only where they are needed
    names = full_grid(meta).tasks if images_of(data / "studies") else []
    tasks = {name: Task.load(data / "images" / f"{name}.npz") for name in names}
    return train(meta, tasks, plan.recommenders.names, data, plan.recommenders.seed, say)


if __name__ == "__main__":
    sys.exit(main())
