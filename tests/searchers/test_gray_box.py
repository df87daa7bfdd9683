"""Each searcher that decides between epochs beats random search at equal epochs on a table whose
optimum is known, and where there is a model it decides.
"""

import numpy as np
import pytest
from laws import each, quick, rising
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.registry import searcher
from foretune.study.study import Step

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


@pytest.mark.parametrize(
    "name",
    ["sha", "hyperband", "asha", "bohb", pytest.param("freeze-thaw", marks=pytest.mark.slow)],
)
def test_beats_random_search(name: str, random_regret: np.ndarray):
    assert regrets(name).mean() < 0.5 * random_regret.mean()


# every decision after the first few is the model's
@each("boca", "freeze-thaw", "dpl", "dyhpo", "dyhpo+")
def test_the_model_decides_and_not_chance(name, table):
    """With a history that tells much, two random states suggest the same."""
    values = rising()
    study, _ = replay_study(table(values), "t0", budget=500, method=name)
    for i in range(0, 24, 2):
        study.tell(Step(i, 0, 2), values[0, i, :2].tolist())
    suggested = {
        quick(name).suggest(study, np.random.default_rng(seed)).config for seed in range(3)
    }
    assert len(suggested) == 1
