"""ABLR: its evidence against dense algebra, its regression, and both searchers against random
search.
"""

import numpy as np
import pytest
import torch
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.random import Random
from foretune.searchers.transfer.ablr import ABLR, WIDTH, ABLRHyperband, log_marginal
from foretune.searchers.transfer.past_curves import past_curves


def test_evidence_equals_the_dense_gaussian():
    rng = np.random.default_rng(0)
    Phi, y, alpha, beta = (
        rng.normal(size=(9, 4)),
        rng.normal(size=(2, 9)),
        np.array([0.5, 2.0]),
        np.array([10.0, 3.0]),
    )
    value = log_marginal(*(torch.as_tensor(a) for a in (Phi, y, np.log(alpha), np.log(beta))))
    for t in range(2):
        K = Phi @ Phi.T / alpha[t] + np.eye(9) / beta[t]
        dense = (
            -0.5 * y[t] @ np.linalg.solve(K, y[t])
            - 0.5 * np.linalg.slogdet(K)[1]
            - 4.5 * np.log(2 * np.pi)
        )
        assert float(value[t]) == pytest.approx(dense)


def test_the_target_follows_its_observations():
    meta = synthetic_meta(tasks=4, configs=20, epochs=6)
    study, _ = replay_study(meta, "t0", budget=10)
    searcher = ABLR(steps=60)
    learned = searcher.learn(study, past_curves(study))
    # the features explain most of the past
    assert learned.Phi.shape == (120, WIDTH) and learned.beta > 5
    Y = np.full((20, 6), np.nan)
    Y[2:10] = learned.past.Z[1][2:10]
    mean, std = searcher.predict(learned, study, Y)
    hidden = np.r_[0:2, 10:20]
    truth = learned.past.Z[1][hidden]
    assert np.corrcoef(mean[hidden].ravel(), truth.ravel())[0, 1] > 0.7
    assert std[2:10].mean() < std[hidden].mean()


@pytest.mark.parametrize("make", [lambda: ABLR(steps=80), lambda: ABLRHyperband(steps=80)])
def test_beats_random_search_on_related_tasks(make):
    meta, found, chance = synthetic_meta(seed=0), [], []
    for task in meta.tasks[:3]:
        for kind, seeds, out in ((make, (0,), found), (Random, range(5), chance)):
            for seed in seeds:
                study, objective = replay_study(meta, task, budget=27, seed=seed)
                *_, last = replay(study, objective, kind(), Score(meta, task))
                out.append(last["normalized_regret"])
    assert np.mean(found) < np.mean(chance)
