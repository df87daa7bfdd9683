"""How long to train HyperSTAR and how much of it to believe, from the past tasks alone.

Some sources at a time are held out of the past; a network trained on the rest predicts their tasks
at several lengths of training. The length with the smallest squared error wins, together with the
strength in [0, 1] that the residual should have had (its least-squares slope): 0 where images told
nothing that held on tasks of other sources, and then the recommendation is the mean score of the
past.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from foretune.recommenders.hyperstar.training import Lesson, NetworkRecipe, Trained, folds_of

CHECKPOINTS = (10, 20, 40)  # and the recipe's `steps`
DRAWS = 10  # image batches of a held-out task, B_img


@dataclass(frozen=True)
class Choice:
    """Steps of training and strength of the residual.

    `error`, of held-out past tasks (mean squared, scores of deviation 1), and that of the mean
    score.
    """

    steps: int
    strength: float
    error: float = float("nan")
    mean_error: float = float("nan")


def batches(pooled: Tensor, images: int, seed: int) -> Tensor:
    """`DRAWS` random image batches of a task, (N, features) to (DRAWS, images, features).

    With replacement where there are fewer.
    """
    rng = np.random.default_rng(seed)
    n = len(pooled)
    rows = np.stack([rng.choice(n, images, replace=n < images) for _ in range(DRAWS)])
    return pooled[torch.from_numpy(rows)]


def choose(lesson: Lesson, recipe: NetworkRecipe, pooled: Sequence[Tensor], seed: int) -> Choice:
    """The choice for `lesson`, whose images went through the untrained tail as `pooled`.

    The tail stays frozen here.
    """
    if not recipe.inner or len(set(lesson.sources)) < 3:
        return Choice(recipe.steps, 1.0)
    steps = [c for c in CHECKPOINTS if c < recipe.steps] + [recipe.steps]
    frozen = replace(lesson, activations=pooled, pooled=pooled, tail=None)
    # by checkpoint: what the network says of held-out tasks
    said: list[list[np.ndarray]] = [[] for _ in steps]
    true: list[np.ndarray] = []
    for fold, out in enumerate(folds_of(lesson.sources, recipe.inner, np.random.default_rng(seed))):
        kept = [i for i in range(len(lesson.sources)) if i not in out]
        trained = Trained(frozen.only(kept), recipe, seed + 7919 * (fold + 1))
        base = lesson.scores[kept].mean(axis=0) if recipe.residual else 0.0
        true += [lesson.scores[i] - base for i in out]
        done = 0
        for place, target in enumerate(steps):
            trained.run(target - done)
            done = target
            said[place] += [
                trained.predict(batches(pooled[i], recipe.images, seed + int(i))) for i in out
            ]
    e = np.stack(true)
    found = []
    for count, rows in zip(steps, said, strict=True):
        r = np.stack(rows)
        slope = 1.0
        if recipe.residual:
            slope = float(np.clip((r * e).sum() / max((r * r).sum(), 1e-12), 0.0, 1.0))
        found.append(
            Choice(count, slope, float(((e - slope * r) ** 2).mean()), float((e**2).mean()))
        )
    return min(found, key=lambda choice: choice.error)
