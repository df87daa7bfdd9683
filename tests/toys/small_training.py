"""A small task and settings for tests of the trainer."""

from typing import Any

import numpy as np

from foretune.tasks.task import Task
from foretune.training.settings import Settings

SIZE = 32


def settings(network: str = "test_resnet", **changes: Any) -> Settings:
    """Random weights, a CPU, three epochs."""
    return Settings(
        **{
            "network": network,
            "image_size": SIZE,
            "pretrained": False,
            "batch_size": 8,
            "train_limit": 0,
            "valid_limit": 0,
            "max_epoch": 3,
            "device": "cpu",
            **changes,
        }
    )


def task(classes: int = 3, count: int = 42, seed: int = 0) -> Task:
    """Pictures whose brightness tells their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 100, (count, SIZE, SIZE, 3)) + 60 * labels[:, None, None, None]
    split = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [count // 2, count // 3, count // 6])
    names = tuple(f"class {c}" for c in range(classes))
    return Task("toy", images.astype(np.uint8), labels.astype(np.int64), names, split)


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what a clock says."""
    times = {"seconds", "images_per_second"}
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


def config(**changes: Any) -> dict[str, Any]:
    """AdamW on everything, nothing else."""
    return {"learning_rate": 1e-3, "optimizer": "adamw", **changes}
