"""The picture world as a user's data folder: past tasks shipped, studies of one's own finished."""

from dataclasses import asdict

import numpy as np

from foretune.evaluation.replay import Score, replay
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.registry import recommender
from foretune.running.meta_train import train
from foretune.running.objectives.replay import Replay
from foretune.searchers.registry import searcher
from foretune.study.notes import Notes
from foretune.study.study import Plan, Study
from foretune.training.recipe import Settings

NAME = "nearest-metadata"


def shown_of(world):
    """The world's past tasks as a meta-dataset of three epochs; all but the bluish ones, which are
    left for own studies, and those.
    """
    table = world.meta.table
    low = [
        table.assign(epoch=epoch, score=table["score"] - 0.02 * (3 - epoch)) for epoch in (1, 2, 3)
    ]
    import pandas as pd

    about = {
        **world.meta.about,
        "max_epoch": 3,
        "hashes": {name: task.hash for name, task in world.past.items()},
    }
    configs = dict(zip(world.meta.config_ids, world.meta.configs, strict=True))
    meta = MetaDataset.build(world.meta.space, configs, pd.concat(low, ignore_index=True), **about)
    best = meta.best()
    blue = [task for task, row in zip(meta.tasks, best, strict=True) if int(np.argmax(row)) > 15]
    return meta, [t for t in meta.tasks if t not in blue], blue


def finished(folder, meta, task, images, *, budget=60, seed=0, **notes):
    """A study of `task` that random search has finished, as `foretune tune` leaves it."""
    facts = Notes(**{"task_hash": images.hash, "settings": asdict(Settings()), **notes})
    plan = Plan(
        task="photos",
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=3,
        budget=budget,
        seed=seed,
        notes=facts,
    )
    study = Study(meta.space, meta.configs, plan, folder=folder)
    for _ in replay(study, Replay(meta, task), searcher("random"), Score(meta, task)):
        pass
    study.save_tables()
    images.save(folder / "task.npz")
    (folder / "best.yaml").write_text("task: photos\n")
    return study


def data_folder(world, shown, folder):
    """A data folder: the reddish tasks shipped, with a recommender fitted on them, and a finished
    study on two of the bluish ones.
    """
    meta, red, blue = shown
    meta.select(red).save(folder / "meta" / "light")
    for name in red:
        world.past[name].save(folder / "images" / f"{name}.npz")
    recommender(NAME).fit(meta.select(red), world.past).save(folder / "models" / NAME)
    for name, task in zip(("mine", "other"), blue, strict=False):
        finished(folder / "studies" / name, meta, task, world.past[task])
    return folder


def fit(data, shown, world, say=lambda line: None):
    meta, red, _ = shown
    return train(meta.select(red), {name: world.past[name] for name in red}, [NAME], data, say=say)
