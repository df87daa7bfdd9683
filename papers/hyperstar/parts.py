"""What the parts of HyperSTAR are worth, and whether capacity or training is at fault.

One training a held-out source, on the shipped meta-dataset.

    python -m papers.hyperstar.parts [--meta FOLDER] [--images data/images] [--only NAMES]

Every row changes one thing of the plain version (batchwise mean, no regularisers). AP@10 is the
mean over held-out tasks and three draws of images; the difference to the task-agnostic list is
taken task by task. `error` is that of the inner leave-sources-out (mean squared, normalised
scores), beside the mean score's.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foretune.history.average_precision import ap_at_k
from foretune.history.grid import full_grid, held_out_together
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.baselines import TaskAgnostic
from foretune.recommenders.hyperstar.recommender import HyperSTAR
from foretune.recommenders.hyperstar.training import NetworkRecipe
from foretune.recommenders.past import best_over_seeds
from foretune.shipped import LIGHT
from foretune.tasks.task import Task

DRAWS = 3
# name -> options of the recommender, changes of the recipe
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "8 dimensions": ({}, {"width": 8}),
    "128 dimensions, 256 hidden": ({}, {"width": 128, "hidden": 256}),
    "up to 320 steps": ({}, {"steps": 320}),
    "no sub-tasks": ({}, {"subtasks": 0.0}),
    "trunk frozen": ({}, {"tail_rate": 0.0}),
    "numeric encoding": ({"encoding": "numeric"}, {}),
    "both encodings": ({"encoding": "both"}, {}),
    "similarity": ({}, {"alpha": 0.5}),
    "adversary": ({}, {"beta": 0.1}),
    "full strength, 40 steps": ({"steps": 40, "strength": 1.0}, {}),
    "plain regression": ({"residual": False}, {}),
    "plain regression, up to 320 steps": ({"residual": False}, {"steps": 320}),
    "plain regression, 128 and 256, up to 320 steps": (
        {"residual": False},
        {"width": 128, "hidden": 256, "steps": 320},
    ),
}


class Changed(HyperSTAR):
    """HyperSTAR with parts of its recipe changed."""

    def __init__(self, changes: Mapping[str, Any], **options: Any):
        super().__init__(members=1, similarity=False, adversarial=False, **options)
        self.changes = changes

    def recipe(self) -> NetworkRecipe:
        return replace(super().recipe(), **self.changes)


def main() -> None:
    """Print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meta", type=Path, default=LIGHT)
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    parser.add_argument("--only", help="names, separated by semicolons")
    given = parser.parse_args()
    meta = full_grid(MetaDataset.load(given.meta))
    tasks = {name: Task.load(given.images / f"{name}.npz") for name in meta.tasks}
    truth = dict(zip(meta.tasks, best_over_seeds(meta), strict=True))
    folds = held_out_together(meta)
    base = {
        task: ap_at_k(
            TaskAgnostic().fit(meta.select(past), {}).rank(tasks[task]).scores, truth[task]
        )
        for held, past in folds.items()
        for task in held
    }
    print(f"{'':48} AP@10  over the list     error  of the mean  strength  steps")
    print(f"{'task-agnostic list':48} {np.mean(list(base.values())):.3f}", flush=True)
    for name in given.only.split(";") if given.only else PARTS:
        options, changes = PARTS[name]
        found, choices = {}, []
        for held, past in folds.items():
            fitted = Changed(changes, **options).fit(meta.select(past), tasks)
            choices.append(fitted.choice)
            for task in held:
                found[task] = np.mean(
                    [ap_at_k(fitted.rank(tasks[task], k).scores, truth[task]) for k in range(DRAWS)]
                )
        gap = np.array([found[task] - base[task] for task in found])
        error, of_mean, strength, steps = (
            np.mean([getattr(c, key) for c in choices])
            for key in ("error", "mean_error", "strength", "steps")
        )
        print(
            f"{name:48} {np.mean(list(found.values())):.3f}  {gap.mean():+.3f} ± "
            f"{gap.std(ddof=1) / np.sqrt(len(gap)):.3f}"
            f"  {error:.4f}  {of_mean:11.4f}  {strength:8.2f}  {steps:5.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
