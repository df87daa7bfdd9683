"""Kernel ridge regression from a task's landmarks and metadata to what its configurations do
beyond the list: the mean normalised score of past tasks.

Notation: T past tasks, n configurations, x (T, p) descriptions, standardised; r (T, n) scores minus
their mean. With k(x, x') = exp(-|x - x'|^2 / (2 l^2)), l the median distance between past tasks
times `width`,

    score(x) = mean + strength * k(x)^T (K + ridge I)^-1 r

`width`, `ridge` and `strength` are those with the smallest squared error on past tasks whose source
is left out, the mean being that of the others then too. A strength of 0 is the list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np

from foretune.errors import within
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.base import Arrays, Recommender
from foretune.recommenders.landmarks import landmarks
from foretune.recommenders.metadata import metadata, standardise
from foretune.recommenders.past import support_of, weights_of
from foretune.recommenders.ranking import Ranking, in_unit
from foretune.tasks.task import Task

WIDTHS = (0.5, 1.0, 2.0)
RIDGES = (0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Ridge:
    """The regression's constants."""

    width: float = 1.0
    ridge: float = 1.0
    strength: float = 0.0

    def beyond(self, x: np.ndarray, scores: np.ndarray, new: np.ndarray) -> np.ndarray:
        """What tasks described by `new` (m, p) do beyond the mean of `scores` (T, n) of tasks
        described by `x` (T, p), at full strength: (m, n).
        """
        length = self.width * (median_distance(x) or 1.0)
        K, k = kernel(x, x, length), kernel(new, x, length)
        residual = scores - scores.mean(axis=0)
        return np.asarray(k @ np.linalg.solve(K + self.ridge * np.eye(len(K)), residual))


def kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """exp(-|a - b|^2 / (2 l^2)), (len(a), len(b))."""
    apart = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-apart / (2 * length**2)))


def median_distance(x: np.ndarray) -> float:
    """Between different rows; 0 for fewer than two."""
    i, j = np.triu_indices(len(x), 1)
    return float(np.median(np.linalg.norm(x[i] - x[j], axis=1))) if len(i) else 0.0


def left_out(
    raw: np.ndarray, scores: np.ndarray, sources: Sequence[str], ridge: Ridge
) -> tuple[np.ndarray, np.ndarray]:
    """The mean score of the other sources' tasks and what is said beyond it, of each past task with
    its source left out, (T, n) each; `raw` (T, p) are descriptions that are not standardised.
    """
    mean, beyond = np.empty_like(scores), np.empty_like(scores)
    for source in dict.fromkeys(sources):
        out = np.array([s == source for s in sources])
        centre, scale = standardise(raw[~out])
        x, new = (raw[~out] - centre) / scale, (raw[out] - centre) / scale
        mean[out] = scores[~out].mean(axis=0)
        beyond[out] = ridge.beyond(x, scores[~out], new)
    return mean, beyond


def choose(raw: np.ndarray, scores: np.ndarray, sources: Sequence[str]) -> Ridge:
    """The constants with the smallest squared error on sources left out; strength 0 for fewer than
    three sources.
    """
    if len(set(sources)) < 3:
        return Ridge()
    best, chosen = np.inf, Ridge()
    for width, ridge in product(WIDTHS, RIDGES):
        one = Ridge(width, ridge, 1.0)
        mean, beyond = left_out(raw, scores, sources, one)
        true = scores - mean
        power = float((beyond**2).sum())
        strength = float(np.clip((true * beyond).sum() / power, 0, 1)) if power > 0 else 0.0
        error = float(((true - strength * beyond) ** 2).mean())
        if error < best:
            best, chosen = error, Ridge(width, ridge, strength)
    return chosen


class KernelRidge(Recommender):
    """The list and what landmarks with metadata add to it; `shrink` in [0, 1] is the share of that
    addition that is believed, on top of the strength that past tasks show.
    """

    name: ClassVar[str] = "landmarks"
    neighbours: ClassVar[int] = 5

    def __init__(self, shrink: float = 1.0):
        within(0, 1, shrink=shrink)
        super().__init__(shrink=shrink)

    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        """Describe the past tasks and choose the constants; nothing is drawn."""
        self.raw = np.stack([described(task) for task in self.begin(meta, tasks)])
        sources = meta.about.get("sources", {})
        self.chosen = choose(
            self.raw, self.past.normalised, [sources.get(t, t) for t in self.past.tasks]
        )
        return self

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """The list, moved by what tasks with such landmarks did beyond it."""
        centre, scale = standardise(self.raw)
        x, new = (self.raw - centre) / scale, (described(task) - centre) / scale
        past = self.past.normalised
        base = past.mean(axis=0)
        moved = self.chosen.beyond(x, past, new[None])[0]
        scores = base + self.options["shrink"] * self.chosen.strength * moved
        distances = np.linalg.norm(x - new, axis=1)
        nearest = weights_of(distances, self.past.tasks, self.neighbours)
        predicted, spread = in_unit(self.past, scores, nearest, past.std(axis=0))
        counts = dict.fromkeys(self.past.tasks, 1 / len(self.past.tasks))
        return Ranking(
            self.past,
            scores,
            nearest,
            *support_of(new, x),
            predicted,
            spread,
            base=base,
            counts=counts,
        )

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """The past tasks' descriptions and the constants chosen."""
        return {"raw": self.raw}, vars(self.chosen).copy()

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.raw, self.chosen = arrays["raw"], Ridge(**values)


def described(task: Task) -> np.ndarray:
    """Landmarks and metadata, (25,)."""
    return np.concatenate([landmarks(task), metadata(task)])
