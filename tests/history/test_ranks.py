"""Mean rank and the greedy portfolio against brute force, regrets by hand."""

from itertools import combinations

import numpy as np

from foretune.history.ranks import (
    equal_support,
    greedy_portfolio,
    mean_rank,
    normalized_regret,
    support_by_task,
)


def brute_mean_rank(best):
    """By counting, one configuration at a time."""
    out = []
    for i in range(best.shape[1]):
        shares = []
        for row in best:
            if np.isnan(row[i]):
                continue
            others = [v for j, v in enumerate(row) if j != i and not np.isnan(v)]
            better = sum(v > row[i] for v in others) + 0.5 * sum(v == row[i] for v in others)
            shares.append(better / max(1, len(others)))
        out.append(np.mean(shares) if shares else np.inf)
    return np.array(out)


def brute_greedy(best, size):
    """Every continuation tried, by the mean regret it leaves."""
    regret = np.array(
        [
            [
                np.nan
                if np.isnan(v)
                else (np.nanmax(row) - v) / ((np.nanmax(row) - np.nanmin(row)) or 1)
                for v in row
            ]
            for row in best
        ]
    )
    regret = np.where(np.isnan(regret), 1.0, regret)
    chosen = []
    while len(chosen) < size:
        left = [c for c in range(best.shape[1]) if c not in chosen]
        after = {
            c: np.mean([min([1.0, *regret[t, [*chosen, c]]]) for t in range(len(best))])
            for c in left
        }
        now = np.mean([min([1.0, *regret[t, chosen]]) for t in range(len(best))])
        if not left or min(after.values()) >= now - 1e-12:
            break
        chosen.append(min(left, key=after.get))
    return chosen


def tables():
    rng = np.random.default_rng(0)
    for k in range(30):
        # many ties
        best = rng.integers(0, 6, (int(rng.integers(1, 6)), int(rng.integers(2, 9)))).astype(float)
        if k % 3 == 0:
            best = rng.normal(size=best.shape)
        if k % 2:
            best[rng.random(best.shape) < 0.2] = np.nan
            best[:, 0] = rng.normal(size=len(best))  # each task knows something
        yield best


def test_mean_rank_is_the_brute_force_one():
    for best in tables():
        np.testing.assert_allclose(mean_rank(best), brute_mean_rank(best))


def test_the_portfolio_is_the_brute_force_one():
    for best in tables():
        assert greedy_portfolio(best, 4) == brute_greedy(best, 4)


def test_the_greedy_portfolio_of_two_is_near_the_best_pair():
    """Greedy is no worse than (1 - 1/e) of the best possible gain (the gain is submodular)."""
    for best in tables():
        regret = np.where(np.isnan(r := normalized_regret(best)), 1.0, r)
        pair = greedy_portfolio(best, 2)
        gain = 1 - regret[:, pair].min(axis=1).mean()
        optimum = max(
            1 - regret[:, list(two)].min(axis=1).mean()
            for two in combinations(range(best.shape[1]), 2)
        )
        assert gain >= (1 - 1 / np.e) * optimum - 1e-12


def test_normalized_regret_by_hand():
    got = normalized_regret(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0], [np.nan, 0.0, 4.0]]))
    np.testing.assert_array_equal(got, [[1, 0, 0.5], [0, 0, 0], [np.nan, 1, 0]])


def test_tasks_on_which_a_configuration_is_good_speak_for_it():
    best = np.array([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0], [np.nan, 1.0]])
    assert support_by_task(best, ["a", "b", "c", "d"], 0) == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert support_by_task(best[3:], ["d"], 0) == {}


def test_a_mean_list_leans_on_every_task_that_knows_a_configuration_good_or_bad():
    best = np.array([[3.0, 1.0], [0.0, 5.0], [np.nan, 2.0]])
    assert equal_support(best, ["a", "b", "c"], 0) == {"a": 0.5, "b": 0.5}
    assert equal_support(best[2:], ["c"], 0) == {}
