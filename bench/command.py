"""Seconds that a step of a user's script costs beyond the script's own time.

    python bench/command.py [--steps 20] [--epoch 0.5]

The script is tests/toys/training_script.py, which imports nothing large: its own time is that from
its start to the end of one epoch of `--epoch` seconds, run by hand. A step starts it, reads its
result, waits for its checkpoint, keeps a copy and stops it. The two take turns, so that a busy
machine slows both. Median and 90th percentile of the differences, in wall-clock seconds and in the
processor's, which other processes hardly change.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foretune.running.objectives.command import Command
from foretune.running.scripts.results import source
from foretune.running.scripts.template import Template

SCRIPT = Path(__file__).resolve().parents[1] / "tests" / "toys" / "training_script.py"


def seconds(what: Callable[[], object]) -> np.ndarray:
    """(2,) seconds that a call takes: wall-clock, and of the processor with all child processes."""
    began = np.array([time.monotonic(), sum(os.times()[:4])])
    what()
    return np.array([time.monotonic(), sum(os.times()[:4])]) - began


def differences(steps: int, epoch: float, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(steps, 2) seconds beyond the script's own of first steps, and of steps that go on."""
    line = [sys.executable, str(SCRIPT), "--pause", str(epoch)]
    text = " ".join([*line, "--lr {lr} --epochs {epochs} --out {trial_folder}"])
    objective = Command(
        Template(text),
        source("results.csv:val_acc"),
        folder / "trials",
        10**6,
        ("lr",),
        folder,
        resume=Template("--resume {checkpoint}"),
        checkpoint_files="last.json",
    )
    first, later = [], []
    for k in range(steps):
        alone = folder / f"alone-{k}"
        alone.mkdir()
        by_hand = [*line, "--epochs", "1", "--out", str(alone)]
        own = seconds(lambda by_hand=by_hand: subprocess.run(by_hand, check=True, stdout=-3))  # type: ignore[misc]
        for at, found in ((0, first), (1, later)):
            found.append(
                seconds(lambda k=k, at=at: objective.run(k, {"lr": 0.1}, at, at + 1)) - own
            )  # type: ignore[misc]
    return np.array(first), np.array(later)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="of each kind")
    parser.add_argument("--epoch", type=float, default=0.5, help="seconds of an epoch")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = differences(asked.steps, asked.epoch, Path(folder))
    for name, one in zip(("first steps", "steps that go on"), found, strict=True):
        for clock, column in zip(("wall clock", "processor"), one.T, strict=True):
            middle, high = np.percentile(column, [50, 90])
            print(
                f"{name}, {clock}: {middle:.3f} s (median), {high:.3f} s (90th percentile), "
                f"n = {len(one)}"
            )


if __name__ == "__main__":
    main()
