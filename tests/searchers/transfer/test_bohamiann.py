"""BOHAMIANN: a function of the history, learns the past, better than random search."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.random import Random
from foretune.searchers.transfer.bohamiann import Bohamiann
from foretune.searchers.transfer.past_curves import past_curves


def test_the_chain_learns_the_past_and_predictions_are_a_function_of_the_history():
    meta = synthetic_meta(tasks=4, configs=20, epochs=6)
    study, _ = replay_study(meta, "t0", budget=10)
    searcher = Bohamiann(burn_in=400)
    learned = searcher.learn(study, past_curves(study))
    Y = np.full((20, 6), np.nan)
    Y[:12] = learned.past.Z[0][:12]
    mean, std = searcher.predict(learned, study, Y)
    assert np.corrcoef(mean[12:].ravel(), learned.past.Z[0][12:].ravel())[0, 1] > 0.5
    assert (std > 0).all() and np.isfinite(mean).all()
    again, _ = Bohamiann(burn_in=400).predict(learned, study, Y)
    np.testing.assert_array_equal(mean, again)


@pytest.mark.slow
def test_beats_random_search_on_related_tasks():
    meta, found, chance = synthetic_meta(seed=0), [], []
    for task in meta.tasks[:2]:
        for make, seeds, out in (
            (lambda: Bohamiann(burn_in=600, steps=30), (0,), found),
            (Random, range(5), chance),
        ):
            for seed in seeds:
                study, objective = replay_study(meta, task, budget=27, seed=seed)
                *_, last = replay(study, objective, make(), Score(meta, task))
                out.append(last["normalized_regret"])
    assert np.mean(found) < np.mean(chance)
