"""How good the forecasts of recommenders are, on tasks of sources held out in turn.

Their error, and how often the truth lies within one and two spreads.

    python -m papers.hyperstar.forecast [--recommenders task-agnostic,siamese,hyperstar]

A calibrated normal forecast has 68 % within one spread and 95 % within two. Values of one task
share its level, so sixteen tasks tell less than their 1,728 values: the worst task is shown as
well.
"""

import argparse
from pathlib import Path

import numpy as np

from foretune.history.grid import full_grid, held_out_together
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.past import best_over_seeds
from foretune.recommenders.registry import recommender
from foretune.shipped import LIGHT
from foretune.tasks.task import Task


def main() -> None:
    """Print a line for each recommender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--recommenders",
        default="task-agnostic,siamese,hyperstar",
        help="names, separated by commas",
    )
    parser.add_argument("--meta", type=Path, default=LIGHT)
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    given = parser.parse_args()
    meta = full_grid(MetaDataset.load(given.meta))
    tasks = {name: Task.load(given.images / f"{name}.npz") for name in meta.tasks}
    truth = dict(zip(meta.tasks, best_over_seeds(meta) * meta.sign, strict=True))
    print(f"{'':16} error  within 1  within 2  least within 1 (task)  supported")
    for name in given.recommenders.split(","):
        errors, one, two, supported = [], {}, [], 0
        for held, past in held_out_together(meta).items():
            fitted = recommender(name).fit(meta.select(past), tasks)
            for task in held:
                found = fitted.rank(tasks[task])
                if found.predicted is None or found.spread is None:
                    raise SystemExit(f"{name} makes no forecasts")
                gap = np.abs(found.predicted - truth[task])
                errors.append(np.nanmean(gap))
                one[task] = float(np.mean(gap <= found.spread))
                two.append(np.mean(gap <= 2 * found.spread))
                supported += found.supported
        worst = min(one, key=lambda task: one[task])
        print(
            f"{name:16} {np.mean(errors):.3f}  {np.mean(list(one.values())):8.2f}  "
            f"{np.mean(two):8.2f}  "
            f"{one[worst]:.2f} ({worst})  {supported} of {len(one)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
