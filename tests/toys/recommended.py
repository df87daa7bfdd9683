"""A task of noise and a ranking that is known, for tests of what is done with rankings."""

from pathlib import Path

import numpy as np

from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.past import Past
from foretune.recommenders.ranking import Ranking
from foretune.tasks.task import Task


def picture_task(name="new", seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(24) % 2
    return Task(
        name,
        rng.integers(0, 255, size=(24, 16, 16, 3)).astype(np.uint8),
        labels.astype(np.int64),
        ("a", "b"),
        (np.arange(24) // 2 % 3).astype(np.uint8),
    )


def ranking_of(meta, supported=True, residual=False):
    """With `residual`, as HyperSTAR makes it: a list in which all past tasks count alike, and what
    the images add.
    """
    past = Past.of(meta)
    n, t = len(meta), len(meta.tasks)
    weights = np.linspace(t, 1, t) / np.linspace(t, 1, t).sum()
    scores = np.linspace(1, 0, n)[np.random.default_rng(3).permutation(n)]
    nearest = dict(zip(past.tasks, weights, strict=True))
    return Ranking(
        past,
        scores,
        nearest,
        support=0.5,
        supported=supported,
        predicted=meta.sign * scores,
        spread=np.full(n, 0.05),
        base=scores[::-1].copy() if residual else None,
        counts=dict.fromkeys(past.tasks, 1 / t) if residual else nearest,
    )


def data_folder(folder: Path, meta: MetaDataset) -> Path:
    """A data folder with the task `new` and `meta` as its meta-dataset."""
    (folder / "images").mkdir()
    picture_task().save(folder / "images" / "new.npz")
    meta.save(folder / "meta" / "light")
    return folder
