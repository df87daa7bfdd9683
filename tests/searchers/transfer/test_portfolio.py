"""Mean rank and the greedy portfolio against brute force, and against published figures."""

from itertools import combinations

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import (
    equal_support,
    greedy_portfolio,
    mean_rank,
    normalized_regret,
    support_by_task,
)
from foretune.searchers.transfer.portfolio import MeanRank, Portfolio


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


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (MeanRank, "mean rank over past tasks: place 1"),
        (Portfolio, "greedy portfolio of past tasks: place 1"),
    ],
)
def test_the_list_is_trained_to_the_end_in_its_order(meta, make, first):
    study, objective = replay_study(meta, "t2", budget=27)
    best = meta.best(["t0", "t1", "t3", "t4"])
    want = make().order(best)
    steps = []
    while step := study.ask(make()):
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
        steps.append(step)
    reached = [(s.config_id, s.stop) for s in steps]
    assert [c for c, _ in reached] == want[: len(reached)] and steps[0].because["why"] == first
    assert set(steps[0].because["past"]) <= {"t0", "t1", "t3", "t4"} and sum(
        steps[0].because["past"].values()
    ) == pytest.approx(1, abs=0.01)
    assert sorted(want) == sorted(set(want)) and len(want) == 40


def test_the_portfolio_goes_on_with_the_mean_rank():
    best = np.random.default_rng(1).normal(size=(3, 12))
    chosen = greedy_portfolio(best, 2)
    order = Portfolio(size=2).order(best)
    assert order[:2] == chosen and order[2:] == [
        c for c in MeanRank().order(best) if c not in chosen
    ]


def test_a_configuration_that_no_past_task_knows_comes_last(meta):
    study, _ = replay_study(meta, "t2", budget=1000)
    study.past_ids[:38] = -1
    study.started.clear()
    searcher = MeanRank()
    steps = [study.ask(searcher) for _ in range(4)]
    assert {s.config_id for s in steps[:2]} == {38, 39} and all(s.config_id < 38 for s in steps[2:])
    assert steps[2].because["why"] == "no past task knows it: random"


def test_without_past_tasks_it_says_what_to_do(meta):
    study, _ = replay_study(meta, "t2", budget=10, sources=[])
    with pytest.raises(BadInput, match="give a meta-dataset, or take --method hyperband"):
        study.ask(Portfolio())
    with pytest.raises(BadInput, match="size=0"):
        Portfolio(size=0)


# Normalized regret after k = 1, 3, 5, 10 full trainings, mean over all tasks, each with all others
# as past.
FIGURES = {
    ("hyperrec", "portfolio"): [0.0222, 0.0037, 0.0031, 0.0010],
    ("hyperrec", "mean-rank"): [0.0222, 0.0090, 0.0080, 0.0050],
    ("lcbench", "portfolio"): [0.0652, 0.0485, 0.0450, 0.0300],
    ("lcbench", "mean-rank"): [0.0957, 0.0492, 0.0370, 0.0271],
}


@pytest.mark.parametrize(("name", "kind"), list(FIGURES))
def test_figures_on_the_published_tables(shared, name, kind):
    """Pinned to four digits.

    The published figures, on the full tables (more tasks than these 25), are .029/.0035/.0029/.0009
    and .024/.009/.008/.005 on HyperRec (portfolio, mean rank) and .069/.044/.033/.022 on LCBench
    (portfolio). Ours differ where the missing tasks would move the choice: the tests above hold our
    lists to brute force. On LCBench, lists built from and judged by the last epoch give
    .068/.044/.034/.023, so that the published ones are likely such.
    """
    meta = MetaDataset.load(shared / "data" / "curves" / name)
    best = meta.best()
    make = {"portfolio": Portfolio, "mean-rank": MeanRank}[kind]
    regret = normalized_regret(best)
    found = [
        [regret[t, make().order(np.delete(best, t, 0))[:k]].min() for k in (1, 3, 5, 10)]
        for t in range(len(best))
    ]
    assert np.mean(found, axis=0) == pytest.approx(FIGURES[name, kind], abs=6e-5)
