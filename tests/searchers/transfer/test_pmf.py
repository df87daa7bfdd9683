"""PMF: latent positions put cells that behaved alike together; better than random search."""

import numpy as np
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.random import Random
from foretune.searchers.transfer.past_curves import past_curves
from foretune.searchers.transfer.pmf import PMF


def test_cells_that_behaved_alike_are_close():
    meta = synthetic_meta(tasks=6, configs=20, epochs=5)
    study, _ = replay_study(meta, "t0", budget=10)
    past = past_curves(study)
    past.Z[:, 7] = past.Z[:, 3]  # two configurations with equal curves on all past tasks
    learned = PMF().learn(study, past)
    positions = learned.P.reshape(20, 5, -1)
    np.testing.assert_allclose(positions[7], positions[3], atol=1e-9)
    assert learned.P.shape[1] <= 6


def test_observations_of_one_move_its_like():
    meta = synthetic_meta(tasks=6, configs=20, epochs=5)
    study, _ = replay_study(meta, "t0", budget=10)
    past = past_curves(study)
    past.Z[:, 7] = past.Z[:, 3]
    searcher = PMF()
    learned = searcher.learn(study, past)
    Y = np.full((20, 5), np.nan)
    before, wide = searcher.predict(learned, study, Y)
    Y[3], Y[12] = before[3] + 0.2, before[12]
    after, narrow = searcher.predict(learned, study, Y)
    shift = after - before
    assert abs(shift[7] - shift[3]).max() < 1e-6
    assert (narrow[3] < wide[3]).all()


def test_beats_random_search_on_related_tasks():
    meta, found, chance = synthetic_meta(seed=0), [], []
    for task in meta.tasks[:3]:
        for make, seeds, out in ((PMF, (0,), found), (Random, range(5), chance)):
            for seed in seeds:
                study, objective = replay_study(meta, task, budget=18, seed=seed)
                *_, last = replay(study, objective, make(), Score(meta, task))
                out.append(last["normalized_regret"])
    assert np.mean(found) < 0.5 * np.mean(chance)
