"""Which mapping Siamese-BHO should compare tasks by.

The paper's accuracies, or accuracies at mean 0 and deviation 1 over configurations.

    python -m papers.siamese_bho.targets [--seeds 3]

Leave-one-source-out on the shipped meta-dataset. For each target: the rank correlation of predicted
distances with the true ones of that target, the true distance of the three neighbours in normalised
mappings as a share of the mean one, and the normalized regret of the best among the neighbours'
best configurations, means over tasks and trainings. Minutes of one core.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.history.grid import full_grid, held_out_together
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.past import Past, best_over_seeds
from foretune.recommenders.siamese.recommender import TARGETS, SiameseNearest, mapping_distance
from foretune.shipped import LIGHT
from foretune.tasks.task import Task


def main() -> None:
    """Print a line for each target, and one for neighbours drawn by chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meta", type=Path, default=LIGHT)
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    meta = full_grid(MetaDataset.load(given.meta))
    tasks = {name: Task.load(given.images / f"{name}.npz") for name in meta.tasks}
    every, truth = Past.of(meta), best_over_seeds(meta)
    normalised = mapping_distance(every.normalised)
    true = {"normalised": normalised, "accuracy": mapping_distance(every.best)}

    def regret(of: int, neighbours: np.ndarray) -> float:
        v, chosen = truth[of], [int(np.nanargmax(truth[n])) for n in neighbours]
        return float((v.max() - v[chosen].max()) / (v.max() - v.min()))

    print(f"{'':12} correlation  nearer by  regret of the neighbours' best")
    rows: list[dict[str, object]] = []
    for target in TARGETS:
        for held, past in held_out_together(meta).items():
            ids = np.array([meta.tasks.index(p) for p in past])
            for seed in range(given.seeds):
                fitted = SiameseNearest(target=target).fit(meta.select(past), tasks, seed=seed)
                order = np.array([meta.tasks.index(p) for p in fitted.past.tasks])
                for task in held:
                    me, d = meta.tasks.index(task), fitted.distances(tasks[task], seed)
                    near = order[np.argsort(d, kind="stable")[:3]]
                    rows.append(
                        {
                            "target": target,
                            "correlation": pd.Series(d).corr(
                                pd.Series(true[target][me, order]), method="spearman"
                            ),
                            "nearer": 1 - normalised[me, near].mean() / normalised[me, ids].mean(),
                            "regret": regret(me, near),
                        }
                    )
        mean = pd.DataFrame(rows).query("target == @target").drop(columns="target").mean()
        print(
            f"{target:12} {mean['correlation']:11.2f} {mean['nearer']:9.0%}  {mean['regret']:.3f}",
            flush=True,
        )
    rng = np.random.default_rng(0)
    chance = [
        regret(
            meta.tasks.index(task),
            rng.choice([meta.tasks.index(p) for p in past], 3, replace=False),
        )
        for held, past in held_out_together(meta).items()
        for task in held
        for _ in range(200)
    ]
    print(f"{'by chance':12} {'':11} {'':9}  {np.mean(chance):.3f}")


if __name__ == "__main__":
    main()
