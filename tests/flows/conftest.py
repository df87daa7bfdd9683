"""One Prefect server for all tests of flows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from foretune.tasks.task import Task

TINY = {
    "network": "shufflenet_v2_x05",
    "image_size": 16,
    "pretrained": False,
    "batch_size": 8,
    "max_epoch": 2,
}


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A server with a database of its own, gone afterwards."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tiny tasks, prepared, and a params.yaml for them."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 15)
    for name in ("a", "b"):
        images = (rng.integers(0, 100, (30, 16, 16, 3)) + labels[:, None, None, None] * 100).astype(
            np.uint8
        )
        split = np.tile([0, 0, 0, 1, 2], 6).astype(np.uint8)
        Task(name, images, labels, ("dark", "bright"), split).save(
            tmp_path / "images" / f"{name}.npz"
        )
    settings = ", ".join(f"{k}: {str(v).lower()}" for k, v in TINY.items())
    plan = f"{{folder: {tmp_path}/meta/tiny, configurations: 2}}"
    (tmp_path / "params.yaml").write_text(f"training: {{{settings}}}\nmeta_dataset: {plan}\n")
    return tmp_path
