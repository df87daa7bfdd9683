"""Seconds of HyperSTAR: fitting it, and ranking all configurations for a new task.

On the shipped meta-dataset, once the new task's images are read.

    python bench/recommend.py [--threads 2] [--repeats 20] [--no-fit]

The aims: ranking 108 configurations in at most 0.4 s on 2 CPU cores, trunk included (the paper: 422
ms on a GTX 1080 Ti), fitting in minutes. Each repeat ranks from the pixels: the activations kept
from the last one are dropped. Without `--no-fit` the networks are trained as they ship.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from foretune.history.grid import full_grid
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders import trunk
from foretune.recommenders.hyperstar.recommender import HyperSTAR
from foretune.shipped import LIGHT
from foretune.tasks.task import Task


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--meta", type=Path, default=LIGHT)
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    parser.add_argument(
        "--no-fit",
        action="store_true",
        help="two steps of training instead of all: for the time of ranking alone",
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    meta = full_grid(MetaDataset.load(given.meta))
    *past, new = meta.tasks
    tasks = {name: Task.load(given.images / f"{name}.npz") for name in meta.tasks}
    started, busy = time.perf_counter(), time.process_time()
    made = HyperSTAR(steps=2) if given.no_fit else HyperSTAR()
    made.fit(meta.select(past), tasks)
    what = "two steps of training" if given.no_fit else "fit"
    print(
        f"{what}: {time.perf_counter() - started:.1f} s, {time.process_time() - busy:.1f} s of CPU "
        f"({len(past)} tasks x {len(meta)} configurations, {given.threads} threads)"
    )
    wall, cpu = [], []
    for repeat in range(given.repeats):
        trunk._KEPT.clear()
        started, busy = time.perf_counter(), time.process_time()
        made.rank(tasks[new], repeat)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - busy)
    print(
        f"rank {len(meta)} configurations: median {statistics.median(wall):.3f} s, fastest "
        f"{min(wall):.3f} s, "
        f"p95 {np.quantile(wall, 0.95):.3f} s; CPU seconds: median {statistics.median(cpu):.3f}"
    )


if __name__ == "__main__":
    main()
