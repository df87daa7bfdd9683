"""`foretune tune --minutes`, from the command line to the finished model, by the clock."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

MINUTES = 1.0
BUSY = 1.5  # processes that want each core, beyond which the clock says little of foretune

SPACE = """
learning_rate: {low: 1e-4, high: 3e-2, log: true}
optimizer: [adamw, sgd]
finetune: {order: [head, most], default: most}
augmentation: [none, crop_flip]
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """600 pictures of three classes, told apart by their brightness and a lot of noise."""
    rng = np.random.default_rng(0)
    for number in range(600):
        folder = tmp_path / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(90 + 20 * (number % 3), 60, (80, 60, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.parametrize("networks", [("test_resnet",), ("test_resnet", "test_vit")])
def test_a_minute_is_kept_and_leaves_a_finished_model(
    networks: tuple[str, ...], photographs: Path, tmp_path: Path
) -> None:
    if os.getloadavg()[0] > BUSY * (os.cpu_count() or 1):
        pytest.skip("the machine is too busy to tell seconds by")
    space = tmp_path / "space.yaml"
    more = f"network: [{', '.join(networks)}]\n" if len(networks) > 1 else ""
    space.write_text(SPACE + more, encoding="utf-8")
    command = [
        *(sys.executable, "-m", "foretune", "tune", str(photographs), "--study", "s"),
        *("--minutes", f"{MINUTES:g}", "--network", networks[0], "--from-scratch"),
        *("--image-size", "32", "--space", str(space), "--data", str(tmp_path / "data")),
    ]
    began = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    assert seconds <= 60 * MINUTES * 1.05, done.stdout
    assert seconds >= 60 * MINUTES * 0.7, done.stdout
    folder = tmp_path / "data" / "studies" / "s"
    final = yaml.safe_load((folder / "final.yaml").read_text(encoding="utf-8"))
    best = yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))
    assert final["images"] == 480 and final["config"] == best["config"]
    assert (folder / "final.pt").exists() and "final model" in done.stdout
