"""How high AP@10 can be on the shipped meta-dataset.

What the noise of the truth leaves, and what lists that do not look at the task reach.

    python -m papers.hyperstar.ceiling [--draws 200]

The truth of a configuration is its best accuracy in one training, on at most 300 validation images:
other images or another seed of the training would put others in front. Noise of images is binomial;
noise of seeds is normal with the deviation between seeds that `data/meta/light_seed1` shows (24 of
the configurations on 4 tasks, trained again) among the better half of a task's configurations,
since the first places are what counts and the others scatter more. The measured values stand in for
the expected ones; since they lie further apart than those, ceilings come out too high rather than
too low. No network is trained here; seconds of one core.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.history.average_precision import ap_at_k
from foretune.history.grid import full_grid, held_out_together
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.past import Past, best_over_seeds
from foretune.shipped import LIGHT

IMAGES = 300  # of the validation part: `valid_limit` of the settings


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meta", type=Path, default=LIGHT)
    parser.add_argument("--again", type=Path, default=Path("data/meta/light_seed1"))
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    meta = full_grid(MetaDataset.load(given.meta))
    again = full_grid(MetaDataset.load(given.again), seed=1)
    truth = dict(zip(meta.tasks, best_over_seeds(meta), strict=True))  # (n,) by task
    sigma = seeds(meta, again, truth)

    def images(v: np.ndarray) -> np.ndarray:
        return rng.binomial(IMAGES, np.clip(v, 0, 1)) / IMAGES

    def training(v: np.ndarray) -> np.ndarray:
        return v + rng.normal(size=len(v)) * sigma

    print(f"\nAP@10 on {len(meta.tasks)} tasks x {len(meta)} configurations, {given.draws} draws")
    for name, noisy in (
        ("other validation images", images),
        ("another seed", training),
        ("both", lambda v: images(training(v))),
    ):
        known = np.mean([ap_at_k(v, noisy(v)) for v in truth.values() for _ in range(given.draws)])
        twice = np.mean(
            [ap_at_k(noisy(v), noisy(v)) for v in truth.values() for _ in range(given.draws)]
        )
        print(
            f"  {name:24} the values judged by noisy ones {known:.3f}, two noisy ones by each "
            f"other {twice:.3f}"
        )

    def of_list(past: list[str], task: str) -> float:
        return ap_at_k(agnostic_scores(meta, past), truth[task])

    folds = [(task, list(past)) for held, past in held_out_together(meta).items() for task in held]
    best = np.mean(
        [max(ap_at_k(truth[other], truth[task]) for other in past) for task, past in folds]
    )
    print(f"  the best single past task's list, chosen in hindsight: {best:.3f}")
    for size in (1, 2, 4, 8, 13):
        drawn = [
            of_list(list(rng.choice(past, size, replace=False)), t)
            for t, past in folds
            for _ in range(20)
        ]
        print(f"  mean list of {size:2} past tasks drawn by chance: {np.mean(drawn):.3f}")


def agnostic_scores(meta: MetaDataset, past: Sequence[str]) -> np.ndarray:
    """Scores (n,) of the list that is made of these past tasks and looks at no images."""
    return Past.of(meta.select(list(past))).normalised.mean(axis=0)


def seeds(meta: MetaDataset, again: MetaDataset, truth: dict[str, np.ndarray]) -> float:
    """Print what a second seed changes.

    The deviation between seeds among the better half of each task's configurations.
    """
    rows = [meta.config_ids.index(c) for c in again.config_ids]
    second = dict(zip(again.tasks, best_over_seeds(again), strict=True))
    gaps = pd.DataFrame(
        {
            "task": np.repeat(again.tasks, len(rows)),
            "finetune": [str(meta.configs[r]["finetune"]) for r in rows] * len(again.tasks),
            "variance": np.concatenate(
                [(second[t] - truth[t][rows]) ** 2 / 2 for t in again.tasks]
            ),
        }
    )
    half = len(rows) // 2
    better = [np.argsort(-(second[t] + truth[t][rows]), kind="stable")[:half] for t in again.tasks]
    sigma = np.sqrt(
        gaps["variance"]
        .to_numpy()
        .reshape(len(again.tasks), -1)[np.arange(len(better))[:, None], better]
        .mean()
    )
    print(
        f"another seed, {len(rows)} configurations on {len(again.tasks)} tasks: deviation "
        "between seeds"
    )
    print(f"  all {np.sqrt(gaps['variance'].mean()):.3f}, the better half of each task {sigma:.3f}")
    for by in ("finetune", "task"):
        print(
            "  "
            + ", ".join(
                f"{k} {v:.3f}" for k, v in np.sqrt(gaps.groupby(by)["variance"].mean()).items()
            )
        )
    folds = {task: list(past) for held, past in held_out_together(meta).items() for task in held}
    for k in (3, 10):
        repeat = [ap_at_k(second[t], truth[t][rows], k) for t in again.tasks]
        lists = [agnostic_scores(meta, folds[t])[rows] for t in again.tasks]
        agnostic = [ap_at_k(s, truth[t][rows], k) for s, t in zip(lists, again.tasks, strict=True)]
        chance = np.random.default_rng(0)
        luck = [
            ap_at_k(chance.permutation(len(rows)).astype(float), truth[t][rows], k)
            for t in again.tasks
            for _ in range(200)
        ]
        print(
            f"  AP@{k} among these {len(rows)}, judged by the first seed: the second "
            f"{np.mean(repeat):.3f} "
            f"({', '.join(f'{t} {v:.2f}' for t, v in zip(again.tasks, repeat, strict=True))}), "
            f"the list that looks at no images {np.mean(agnostic):.3f}, chance {np.mean(luck):.3f}"
        )
    return float(sigma)


if __name__ == "__main__":
    main()
