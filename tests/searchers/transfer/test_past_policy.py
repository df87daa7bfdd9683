"""Which of two plain policies the past recommends: against counting by hand, and on pasts made for
either.
"""

import numpy as np
import pytest

from foretune.searchers.transfer.past_policy import full_regret, full_trainings_pay, probe_regret


def late(tasks=6, n=30, epochs=20, seed=0):
    """Configurations rank alike on all tasks, and only the last epochs show how."""
    rng = np.random.default_rng(seed)
    top = np.linspace(0, 1, n)[None] + rng.normal(0, 0.005, (tasks, n))
    shape = np.where(np.arange(1, epochs + 1) > 0.9 * epochs, 1.0, 0.1)
    return top[:, :, None] * shape + rng.normal(0, 0.02, (tasks, n, epochs)) * (shape < 1)


def early(tasks=6, n=30, epochs=20, seed=0):
    """Each task has favourites of its own, which show from the first epoch on."""
    rng = np.random.default_rng(seed)
    top = rng.uniform(0, 1, (tasks, n))
    return top[:, :, None] * (1 - 0.3 * np.exp(-np.arange(1, epochs + 1)))


def test_regret_of_full_trainings_by_hand():
    best = np.array([[1.0, 0.5, 0.0], [1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])[:, :, None]
    # without the first: the portfolio of (1, .5, 0) and (0, .5, 1) takes any (mean regret .5 each):
    # the first; regrets 0, 0; the third: 1
    assert full_regret(best, 1) == pytest.approx((0 + 0 + 1) / 3)
    assert full_regret(best, 2) <= full_regret(best, 1)


def test_probing_finds_what_shows_early_and_counts_its_epochs():
    curves = early()
    running = np.maximum.accumulate(curves, axis=2)
    assert probe_regret(curves, running, 5) < full_regret(running, 5)
    assert probe_regret(curves, running, 10) <= probe_regret(curves, running, 1)
    assert probe_regret(curves[:, :, :1], running[:, :, :1], 1) == 1.0  # not an epoch to spare


def test_full_trainings_pay_where_only_the_end_tells():
    assert full_trainings_pay(late(), 2)
    assert not full_trainings_pay(early(), 5)
    assert not full_trainings_pay(late(tasks=3), 2)  # too few tasks to judge
