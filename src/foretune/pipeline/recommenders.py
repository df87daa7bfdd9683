"""Fit the recommenders that ship, on the whole meta-dataset: what `foretune recommend` ranks with.

    python -m foretune.pipeline.recommenders [--params params.yaml]

Writes `recommender.json` and `weights.safetensors` (a few MB) into a folder of each one's name, in
that of the section `recommenders`; the same meta-dataset, images, seed and number of threads give
the same files.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.grid import full_grid
from foretune.history.meta_dataset import MetaDataset
from foretune.params import load
from foretune.pipeline.threads import on_one_thread
from foretune.recommenders.base import Recommender
from foretune.recommenders.registry import offered, recommender
from foretune.tasks.task import Task


def train(
    meta: MetaDataset,
    tasks: Mapping[str, Task],
    name: str,
    folder: Path,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Recommender:
    """Fit the recommender `name` on the configurations that all tasks have finished, and save it in
    `folder`. Raises `BadInput` for one that cannot be asked for a recommendation.
    """
    offered(name)
    started = time.perf_counter()
    grid = full_grid(meta)
    fitted = recommender(name).fit(grid, tasks, seed)
    fitted.save(folder)
    seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    chosen = ", ".join(f"{key} {value:g}" for key, value in fitted.settled().items())
    say(
        f"{name}: {len(grid.tasks)} tasks x {len(grid)} configurations, {seconds:.1f} s, "
        f"{size:.1f} MiB" + (f"; chosen: {chosen}" if chosen else "")
    )
    return fitted


def main(argv: Sequence[str] | None = None) -> int:
    """The command of the DVC stage `recommenders`."""
    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.recommenders", description=main.__doc__
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    given = parser.parse_args(argv)
    on_one_thread()
    try:
        params = load(given.params)
        meta = MetaDataset.load(params.meta_dataset.folder)
        tasks = {name: Task.load(given.images / f"{name}.npz") for name in full_grid(meta).tasks}
        plan = params.recommenders
        for name in plan.names:
            train(meta, tasks, name, Path(plan.folder) / name, plan.seed)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
