"""Many small tasks cut from a few: what the Siamese network sees of a task.

The paper trains on 80 sub-tasks (5 classes and 2,000 images each, cut from four datasets), every
one of which was trained with 100 configurations. Here a sub-task is a subset of at most 5 classes
of a task and of their images, and it *inherits its parent's mapping* from configuration to accuracy
instead of being trained. That is an approximation: fewer classes are easier, so the parent's
accuracies are too low for its sub-tasks, and two sub-tasks of one parent count as equal. It teaches
the network which pictures belong together, not how class subsets differ.

Shapes: M images kept of a task, `size` pixels of the edge; images uint8 (M, size, size, 3).
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks.pixels import square
from foretune.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images of a task's training part, shrunk, with their labels: what sub-tasks are cut from."""

    name: str
    images: np.ndarray  # uint8 (M, size, size, 3)
    labels: np.ndarray  # int64 (M,)


@dataclass(frozen=True, eq=False)
class SubTask:
    """A task cut from `parent`: some classes, and rows of some of their images in its gallery."""

    parent: str
    classes: tuple[int, ...]
    rows: np.ndarray  # int (m,)


def gallery(task: Task, size: int, most: int, rng: np.random.Generator) -> Gallery:
    """At most `most` images of the training part at `size` pixels, classes as even as can be.

    Raises `BadInput` without any.
    """
    images, labels = task.part("train")
    if not len(images):
        raise BadInput(f"{task.name}: has no images in its training part")
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels))  # how many of its class come before it: classes take turns
    for c in np.unique(labels):
        mine = order[labels[order] == c]
        turn[mine] = np.arange(len(mine))
    keep = np.sort(order[np.argsort(turn[order], kind="stable")][:most])
    return Gallery(task.name, shrink(images[keep], size), labels[keep])


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """Images (M, H, W, 3) at `size` pixels.

    Block means where that divides the edge, else resampled one by one.
    """
    edge = images.shape[1]
    if images.shape[1:3] == (size, size):
        return images
    if edge == images.shape[2] and edge % size == 0:
        block = edge // size
        blocks = images.reshape(len(images), size, block, size, block, 3)
        return np.asarray(blocks.mean(axis=(2, 4)).round().astype(np.uint8))
    return np.stack([square(Image.fromarray(image), size) for image in images])


def cut_subtasks(
    source: Gallery,
    count: int,
    rng: np.random.Generator,
    most_classes: int = 5,
    most_images: int = 200,
) -> list[SubTask]:
    """`count` sub-tasks: 2 to `most_classes` random classes and some of their images.

    A random half or more of them, at most `most_images`.

    A task of one kept class, or of fewer classes than drawn, gives what it has.
    """
    present = np.unique(source.labels)
    out = []
    for _ in range(count):
        most = min(most_classes, len(present))
        wanted = int(rng.integers(min(2, most), most + 1))
        classes = np.sort(rng.choice(present, size=wanted, replace=False))
        rows = np.flatnonzero(np.isin(source.labels, classes))
        size = min(most_images, int(rng.integers((len(rows) + 1) // 2, len(rows) + 1)))
        out.append(
            SubTask(
                source.name,
                tuple(map(int, classes)),
                np.sort(rng.choice(rows, size=max(1, size), replace=False)),
            )
        )
    return out


def images_of(source: Gallery, sub_task: SubTask, tau: int, rng: np.random.Generator) -> np.ndarray:
    """`tau` images of a sub-task, uint8 (tau, size, size, 3).

    With repetition only where it has fewer.
    """
    rows = rng.choice(sub_task.rows, size=tau, replace=len(sub_task.rows) < tau)
    return np.asarray(source.images[rows])
