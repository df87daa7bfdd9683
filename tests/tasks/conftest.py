"""A folder of images for tests of tasks."""

from pathlib import Path

import pytest
from toy_images import pets_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five 20 x 12 images."""
    return pets_folder(tmp_path)
