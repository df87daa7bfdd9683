"""Recommenders that do not look at the new task."""

from collections.abc import Callable

import numpy as np

from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.baselines import (
    MeanRankOrder,
    PortfolioOrder,
    RandomOrder,
    RawMeanOrder,
    TaskAgnostic,
)
from foretune.tasks.task import Task

Make = Callable[..., MetaDataset]
ANY = Task(
    "any", np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]), ("a", "b"), np.zeros(2, np.uint8)
)
BEST = np.array([[0.9, 0.8, 0.5, 0.1], [0.2, 0.7, 0.8, 0.1], [0.1, 0.7, 0.6, 0.9]])


def meta_of(table: Make) -> MetaDataset:
    return table(BEST[:, :, None])


def test_random_is_a_permutation_by_seed(table: Make) -> None:
    fitted = RandomOrder().fit(meta_of(table), {})
    orders = {tuple(fitted.rank(ANY, seed).order) for seed in range(8)}
    assert len(orders) > 1
    assert np.array_equal(fitted.rank(ANY, 3).scores, fitted.rank(ANY, 3).scores)


def test_task_agnostic_is_the_mean_normalised_score(table: Make) -> None:
    ranking = TaskAgnostic().fit(meta_of(table), {}).rank(ANY)
    expected = ((BEST - BEST.mean(1, keepdims=True)) / BEST.std(1, keepdims=True)).mean(0)
    assert np.allclose(ranking.scores, expected)
    assert ranking.order[0] == 1
    assert ranking.predicted is not None and ranking.spread is not None
    assert np.array_equal(np.argsort(-ranking.predicted), ranking.order)
    assert (ranking.spread > 0).all()


def test_the_raw_mean_leaves_values_as_they_are(table: Make) -> None:
    """A task with a wide range decides more: [0.9, 0.1] and twice [0.4, 0.5] are .57 and .37."""
    ranking = RawMeanOrder().fit(meta_of(table), {}).rank(ANY)
    assert np.allclose(ranking.scores, BEST.mean(axis=0))
    wide = table(np.array([[0.9, 0.1], [0.4, 0.5], [0.4, 0.5]])[:, :, None])
    assert RawMeanOrder().fit(wide, {}).rank(ANY).order[0] == 0
    assert TaskAgnostic().fit(wide, {}).rank(ANY).order[0] == 1


def test_mean_rank_and_portfolio_order(table: Make) -> None:
    meta = meta_of(table)
    ranks = np.argsort(np.argsort(-BEST, axis=1), axis=1).mean(0)
    assert np.allclose(MeanRankOrder().fit(meta, {}).rank(ANY).scores, -ranks / 3)
    order = PortfolioOrder().fit(meta, {}).rank(ANY).order
    assert order[0] == 1  # regrets 1/8, 1/7, 1/4: the lowest mean
    assert sorted(order) == [0, 1, 2, 3]
