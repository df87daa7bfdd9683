"""Mean rank and the greedy portfolio against brute force, and against published figures."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import (
    greedy_portfolio,
    normalized_regret,
)
from foretune.searchers.transfer.portfolio import MeanRank, Portfolio


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
