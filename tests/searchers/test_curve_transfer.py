"""The default transfer searcher: beats random search on related tasks, survives a misleading past, respects what a study says."""

import numpy as np

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.evaluation.synthetic import synthetic_meta
from foretune.meta import MetaDataset
from foretune.searchers.curve_transfer import CurveTransfer
from foretune.searchers.random import Random


def regret(meta: MetaDataset, searcher, budget: int, seeds=(0,), tasks=None) -> float:
    """Mean normalized regret at the end of the budget."""
    ends = []
    for task in tasks or meta.tasks:
        for seed in seeds:
            study, objective = replay_study(meta, task, budget=budget, seed=seed)
            *_, last = replay(study, objective, searcher, Score(meta, task))
            ends.append(last["normalized_regret"])
    return float(np.mean(ends))


def test_beats_random_search_on_related_tasks():
    meta = synthetic_meta(seed=0)
    assert regret(meta, CurveTransfer(), 10) < 0.5 * regret(meta, Random(), 10, seeds=range(5))
