"""Each searcher that decides between epochs beats random search at equal epochs on a table whose
optimum is known.
"""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.registry import searcher

BUDGET, SEEDS = 90, 4  # a little more than three full trainings


def regrets(name: str) -> np.ndarray:
    """Normalized regret at the end of the budget, by task and seed."""
    meta = synthetic_meta(tasks=3, configs=200, epochs=27, seed=3)
    out = []
    for task in meta.tasks:
        score = Score(meta, task)
        for seed in range(SEEDS):
            study, objective = replay_study(
                meta, task, budget=BUDGET, seed=seed, sources=[], method=name
            )
            last = list(replay(study, objective, searcher(name), score))[-1]
            assert last["spent"] == BUDGET
            out.append(last["normalized_regret"])
    return np.array(out)


@pytest.fixture(scope="module")
def random_regret() -> np.ndarray:
    return regrets("random")


@pytest.mark.parametrize("name", ["sha", "hyperband", "asha", "bohb", "freeze-thaw"])
def test_beats_random_search(name: str, random_regret: np.ndarray):
    assert regrets(name).mean() < 0.5 * random_regret.mean()
