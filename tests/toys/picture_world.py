"""A world where pictures decide which configuration is best."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foretune.history.meta_dataset import MetaDataset
from foretune.tasks.task import Task


@dataclass(frozen=True)
class World:
    """Past tasks with their table, and new tasks with the true values of each configuration."""

    meta: MetaDataset
    past: dict[str, Task]
    new: list[Task]
    values: list[np.ndarray]


def picture_task(
    name: str, hue: float, rng: np.random.Generator, side: int = 16, images: int = 48
) -> Task:
    """Noise whose colour goes from red (hue 0) to blue (hue 1), in two classes that differ in
    brightness.
    """
    labels = np.arange(images) % 2
    colour = np.array([1 - hue, 0.3, hue]) * 150
    pixels = colour * (0.7 + 0.3 * labels[:, None, None, None]) + rng.normal(
        0, 40, (images, side, side, 3)
    )
    split = np.where(np.arange(images) < images * 0.75, 0, 1).astype(np.uint8)
    return Task(
        name,
        np.clip(pixels, 0, 255).astype(np.uint8),
        labels,
        ("dark", "bright"),
        split,
        source=name,
    )


def make_world(table: Callable[..., MetaDataset]) -> World:
    """14 past tasks and 6 new ones; of 30 configurations on a line, the best is where the task's
    hue is.
    """
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 30)
    hues = {f"t{i}": float(h) for i, h in enumerate(rng.permutation(np.linspace(0.03, 0.97, 14)))}
    best = np.stack([1 - (x - h) ** 2 + rng.normal(0, 0.01, 30) for h in hues.values()])
    past = {name: picture_task(name, h, rng) for name, h in hues.items()}
    new_hues = (0.1, 0.25, 0.4, 0.6, 0.75, 0.9)
    new = [picture_task(f"new{h}", h, rng) for h in new_hues]
    return World(table(best[:, :, None]), past, new, [1 - (x - h) ** 2 for h in new_hues])
