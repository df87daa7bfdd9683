"""Image tasks of noise, and a folder of images as users have them."""

from pathlib import Path

import numpy as np
from PIL import Image

from foretune.tasks.task import Task, split_by_content


def noise(count: int, size: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def make_task(per_class: int = 10, classes: int = 3, **changes) -> Task:
    images, labels = (noise(per_class * classes), np.repeat(np.arange(classes), per_class))
    names = tuple(f"c{i}" for i in range(classes))
    return Task(
        **{
            "name": "t",
            "images": images,
            "labels": labels,
            "class_names": names,
            "split": split_by_content(images, labels),
            **changes,
        }
    )


def pets_folder(parent: Path) -> Path:
    """Two classes of five 20 x 12 images."""
    for label, name in enumerate(("cat", "dog")):
        (parent / "pets" / name).mkdir(parents=True)
        for number, pixels in enumerate(
            np.random.default_rng(label).integers(0, 256, (5, 12, 20, 3), dtype=np.uint8)
        ):
            Image.fromarray(pixels).save(parent / "pets" / name / f"{number}.png")
    return parent / "pets"
