"""Recommenders that do not look at the new task: what any task-aware one has to beat.

`TaskAgnostic` is HyperSTAR's baseline of that name: the mean of the past tasks' normalised scores.
`MeanRank` and `Portfolio` are the lists of `foretune.history.ranks`.
"""

import zlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import mean_rank
from foretune.recommenders.base import Arrays, Past, Ranking, Recommender, equal_shares, in_unit
from foretune.tasks.task import Task


class Blind(Recommender):
    """A recommender that needs no images: all past tasks weigh the same."""

    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        self.past = Past.of(meta)
        return self

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        nearest = equal_shares(self.past.tasks)
        return Ranking(
            self.past, self.scores(seed), nearest, counts=nearest if self.learns else None
        )

    learns: ClassVar[bool] = True  # whether the past tasks decide the order

    @abstractmethod
    def scores(self, seed: int) -> np.ndarray:
        """Scores (n,), higher is better."""

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        return {}, {}

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        pass


class Random(Blind):
    """Random order, drawn from `seed` for each task anew."""

    name: ClassVar[str] = "random"
    learns: ClassVar[bool] = False

    def scores(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).random(len(self.past.config_ids))

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        return super().rank(task, zlib.crc32(f"{task.name} {seed}".encode()))


class TaskAgnostic(Blind):
    """Mean normalised score over past tasks, with the forecast that goes with it."""

    name: ClassVar[str] = "task-agnostic"

    def scores(self, seed: int) -> np.ndarray:
        return self.past.normalised.mean(axis=0)

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        plain = super().rank(task, seed)
        predicted, spread = in_unit(
            self.past, plain.scores, plain.nearest, self.past.normalised.std(axis=0)
        )
        return replace(plain, predicted=predicted, spread=spread)


class MeanRank(Blind):
    """Mean rank over past tasks as a score: minus the mean share of better configurations."""

    name: ClassVar[str] = "mean-rank"

    def scores(self, seed: int) -> np.ndarray:
        return -mean_rank(self.past.filled)


class Portfolio(Blind):
    """The greedy portfolio of past tasks, then the mean rank; scores count down from 1 to 1 / n."""

    name: ClassVar[str] = "portfolio"

    def scores(self, seed: int) -> np.ndarray:
        order = self.past.portfolio()
        out = np.empty(len(order))
        out[order] = np.arange(len(order), 0, -1) / len(order)
        return out
