"""RGPE: ranking loss, weights that find the right past task, better than random search."""

import numpy as np
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.random import Random
from foretune.searchers.transfer.past_curves import past_curves
from foretune.searchers.transfer.rgpe import NOISE, RGPE, misranked, placed


def test_misranked_counts_pairs_in_the_wrong_order():
    z = np.array([1.0, 2.0, 3.0])
    assert misranked(np.array([1.0, 2.0, 3.0]), z) == 0
    # each of three pairs, counted from both sides
    assert misranked(np.array([3.0, 2.0, 1.0]), z) == 6
    np.testing.assert_array_equal(
        misranked(np.array([[1.0, 3.0, 2.0], [1.0, 2.0, 3.0]]), z), [2, 0]
    )


def test_a_target_that_equals_a_past_task_is_predicted_by_it():
    meta = synthetic_meta(tasks=5, configs=20, epochs=6, seed=3)
    study, _ = replay_study(meta, "t0", budget=10)
    searcher = RGPE()
    learned = searcher.learn(study, past_curves(study))
    c, e = np.repeat(np.arange(0, 20, 2), 3), np.tile([0, 2, 4], 10)
    z = learned.past.Z[2][c, e]
    K = learned.C[np.ix_(c, c)] * learned.Q[np.ix_(e, e)]
    w = searcher.weights(learned, c, e, (z - z.mean()) / z.std(), K, np.random.default_rng(0))
    assert w.sum() == 1 or abs(w.sum() - 1) < 1e-9
    assert w[:-1].argmax() == 2


def test_base_models_are_exact_processes_of_their_tasks():
    meta = synthetic_meta(tasks=3, configs=6, epochs=4, seed=3)
    study, _ = replay_study(meta, "t0", budget=10)
    learned = RGPE().learn(study, past_curves(study))
    K = np.kron(learned.C, learned.Q)
    z = learned.past.Z[0].ravel()
    np.testing.assert_allclose(
        learned.mean[0].ravel(), K @ np.linalg.solve(K + NOISE * np.eye(24), z), rtol=1e-6
    )


def test_placing_matches_mean_and_spread():
    base = np.random.default_rng(0).normal(size=(2, 4, 5))
    c, e = np.arange(4), np.arange(4)
    z = 3 + 2 * base[0, c, e]
    np.testing.assert_allclose(placed(base, c, e, z)[0], 3 + 2 * base[0])


def test_beats_random_search_on_related_tasks():
    meta, found, chance = synthetic_meta(seed=0), [], []
    for task in meta.tasks[:3]:
        for make, seeds, out in ((RGPE, (0,), found), (Random, range(5), chance)):
            for seed in seeds:
                study, objective = replay_study(meta, task, budget=18, seed=seed)
                *_, last = replay(study, objective, make(), Score(meta, task))
                out.append(last["normalized_regret"])
    assert np.mean(found) < 0.5 * np.mean(chance)
