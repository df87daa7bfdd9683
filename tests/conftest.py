"""Fixtures that several tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Published tables and images beside the checkout, for those who have them; tests that need them skip otherwise."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "curves").is_dir():
        pytest.skip("the published tables (../shared/data) are not on this machine")
    return folder
