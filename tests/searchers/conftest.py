"""A table with learning curves of varied shape, to see whether a method searches at all."""

from collections.abc import Callable

import numpy as np
import pytest

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import searcher


@pytest.fixture(scope="session")
def hills(table) -> MetaDataset:
    """One task, 60 configurations on a line, 16 epochs. The best lie around x = 0.7; those left of
    0.3 lead after one epoch and are overtaken in the second or third: late bloomers, but not so
    late that a look at early epochs misleads everybody.
    """
    x = np.linspace(0, 1, 60)
    top = 0.9 - 2.0 * (x - 0.7) ** 2 + 0.01 * np.sin(40 * x)
    rate = np.where(x < 0.3, 1.0, 0.35 + 0.1 * x)
    epochs = np.arange(1, 17)
    noise = np.random.default_rng(0).normal(0, 0.003, (60, 16))
    return table((top[:, None] * (1 - np.exp(-rate[:, None] * epochs)) + noise)[None])


@pytest.fixture(scope="session")
def regrets(hills) -> Callable[..., float]:
    """`regrets(name, budget, seeds, **options)`: mean normalized regret of a method on `hills` at
    the end of its budget.
    """

    def mean(name: str, budget: int, seeds: int = 4, **options: object) -> float:
        found = []
        for seed in range(seeds):
            study, objective = replay_study(hills, "t0", budget=budget, seed=seed, method=name)
            steps = list(replay(study, objective, searcher(name, **options), Score(hills, "t0")))
            found.append(steps[-1]["normalized_regret"])
        return float(np.mean(found))

    return mean


@pytest.fixture(scope="session")
def random_regret(regrets) -> float:
    """Random search on `hills` with 80 epochs (five full trainings)."""
    return regrets("random", 80, seeds=12)
