"""Random search."""

import numpy as np

from foretune.evaluation.replay import replay_study
from foretune.searchers.gray_box.random import Random
from foretune.study.study import Step


def test_fresh_configurations_are_trained_to_the_end(meta):
    study, _ = replay_study(meta, "t0", budget=100)
    step = study.ask(Random())
    assert (step.start, step.stop) == (0, 9) and step.because == {"why": "random configuration"}


def test_a_paused_trial_is_finished_first(meta):
    study, _ = replay_study(meta, "t0", budget=100)
    study.tell(Step(17, 0, 4), [0.1] * 4)
    step = study.ask(Random())
    assert (step.config_id, step.start, step.stop) == (17, 4, 9)
    assert study.ask(Random()).start == 0  # while that one is being trained


def test_the_mean_regret_of_random_search_is_that_of_random_subsets(table):
    """One configuration of ten is best; k random ones find it with probability k / 10."""
    meta = table(np.arange(10.0)[None, :, None] + np.zeros((2, 1, 2)))
    found = 0
    for seed in range(400):
        study, objective = replay_study(meta, "t0", budget=6, seed=seed)  # three of two epochs each
        while step := study.ask(Random()):
            study.tell(
                step,
                objective.run(
                    step.config_id, study.configs[step.config_id], step.start, step.stop
                ).rows,
            )
        found += study.incumbent[2] == 9.0
    assert abs(found / 400 - 0.3) < 0.09  # four standard errors
