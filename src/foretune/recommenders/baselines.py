"""Recommenders that do not look at the new task: what any task-aware one has to beat.

`RawMeanOrder` is HyperSTAR's baseline of the name task-agnostic as its section 4.1 words it, the mean
of the past tasks' raw values; `TaskAgnostic` the mean of their normalised scores. `MeanRankOrder` and `PortfolioOrder` are the lists of `foretune.history.ranks`.
"""

import zlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import mean_rank
from foretune.recommenders.base import Arrays, Recommender
from foretune.recommenders.past import Past, equal_shares
from foretune.recommenders.ranking import Ranking, in_unit
from foretune.tasks.task import Task


class Blind(Recommender):
    """A recommender that needs no images: all past tasks weigh the same."""

    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        """Take the past tasks; nothing is learned."""
        self.past = Past.of(meta)
        return self

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """The same ranking for every task, unless it is drawn from `seed`."""
        nearest = equal_shares(self.past.tasks)
        return Ranking(
            self.past, self.scores(seed), nearest, counts=nearest if self.learns else None
        )

    learns: ClassVar[bool] = True  # whether the past tasks decide the order

    @abstractmethod
    def scores(self, seed: int) -> np.ndarray:
        """Scores (n,), higher is better."""

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Nothing beyond the past."""
        return {}, {}

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take nothing back."""


class RandomOrder(Blind):
    """Random order, drawn from `seed` for each task anew."""

    name: ClassVar[str] = "random"
    learns: ClassVar[bool] = False

    def scores(self, seed: int) -> np.ndarray:
        """Uniform numbers drawn from `seed`."""
        return np.random.default_rng(seed).random(len(self.past.config_ids))

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """An order drawn from the task's name and `seed`."""
        return super().rank(task, zlib.crc32(f"{task.name} {seed}".encode()))


class TaskAgnostic(Blind):
    """Mean normalised score over past tasks, with the forecast that goes with it."""

    name: ClassVar[str] = "task-agnostic"

    def scores(self, seed: int) -> np.ndarray:
        """The mean over past tasks of their normalised scores."""
        return self.past.normalised.mean(axis=0)

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """The mean scores, with what they forecast for a further task."""
        plain, doubt = super().rank(task, seed), self.past.normalised.std(axis=0)
        predicted, spread = in_unit(self.past, plain.scores, plain.nearest, doubt)
        return replace(plain, predicted=predicted, spread=spread)


class RawMeanOrder(Blind):
    """Mean value over past tasks as it is, so that tasks with a wide range count for more."""

    name: ClassVar[str] = "raw-mean"

    def scores(self, seed: int) -> np.ndarray:
        """The mean over past tasks of their best values, higher is better."""
        return self.past.filled.mean(axis=0)


class MeanRankOrder(Blind):
    """Mean rank over past tasks as a score: minus the mean share of better configurations."""

    name: ClassVar[str] = "mean-rank"

    def scores(self, seed: int) -> np.ndarray:
        """Minus the mean rank."""
        return -mean_rank(self.past.filled)


class PortfolioOrder(Blind):
    """The greedy portfolio of past tasks, then the mean rank; scores count down from 1 to 1 / n."""

    name: ClassVar[str] = "portfolio"

    def scores(self, seed: int) -> np.ndarray:
        """1 for the first of the portfolio, 1 / n for the last of the rest."""
        order = self.past.portfolio()
        out = np.empty(len(order))
        out[order] = np.arange(len(order), 0, -1) / len(order)
        return out
