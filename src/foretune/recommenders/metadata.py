"""Hand-made descriptions of a task: what recommenders without a learned representation go by.

The first four are those of the HyperSTAR paper's metadata baseline (number of images, of classes,
of images per class) and of Feurer et al. (2015); the rest are plain statistics of pixels.
Everything comes from the task's train part alone.
"""

from weakref import WeakKeyDictionary

import numpy as np

from foretune.recommenders.trunk import image_rows
from foretune.tasks.task import Task

LIMIT = 400  # images whose pixels are looked at, the same ones each time
NAMES = (
    "log images", "log classes", "log images per class", "class entropy",
    "red", "green", "blue", "red deviation", "green deviation", "blue deviation",
    "contrast", "brightness deviation", "colourfulness", "roughness", "log side",
)  # fmt: skip


_KNOWN: WeakKeyDictionary[Task, np.ndarray] = WeakKeyDictionary()


def metadata(task: Task) -> np.ndarray:
    """`measured`, once per task object."""
    if task not in _KNOWN:
        _KNOWN[task] = measure(task)
    return _KNOWN[task]


def measure(task: Task) -> np.ndarray:
    """Features of `NAMES`, (15,): entropy in nats; colours and deviations of pixels in [0, 1].

    Roughness = mean absolute step between neighbours.
    """
    labels = task.labels[task.split == 0]
    labels = labels if len(labels) else task.labels
    share = np.bincount(labels, minlength=task.num_classes) / len(labels)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    pixels = task.images[image_rows(task, LIMIT)].astype(np.float32) / 255.0
    grey = pixels.mean(axis=3)
    return np.array(
        [
            np.log(len(labels)),
            np.log(task.num_classes),
            np.log(len(labels) / task.num_classes),
            entropy,
            *pixels.mean(axis=(0, 1, 2)),
            *pixels.std(axis=(0, 1, 2)),
            grey.std(axis=(1, 2)).mean(),
            grey.mean(axis=(1, 2)).std(),
            np.abs(pixels - grey[..., None]).mean(),
            (np.abs(np.diff(grey, axis=1)).mean() + np.abs(np.diff(grey, axis=2)).mean()) / 2,
            np.log(task.images.shape[1]),
        ],
        dtype=np.float64,
    )


def standardise(past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and scale of features (T, p), (p,) each.

    A feature that all tasks share has scale 1 and says nothing.
    """
    scale = past.std(axis=0)
    return past.mean(axis=0), np.where(scale > 1e-9, scale, 1.0)
