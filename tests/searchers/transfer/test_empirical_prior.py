"""Priors estimated from past tasks: exact weights, full trainings, better than random search."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.random import Random
from foretune.searchers.transfer.empirical_prior import EmpiricalPrior, TaskWeights


def ends(meta, make, budget, seeds=(0,)):
    out = []
    for task in meta.tasks:
        for seed in seeds:
            study, objective = replay_study(meta, task, budget=budget, seed=seed)
            *_, last = replay(study, objective, make(), Score(meta, task))
            out.append(last["normalized_regret"])
    return float(np.mean(out))


@pytest.mark.parametrize("make", [EmpiricalPrior, TaskWeights])
def test_beats_random_search_on_related_tasks(make):
    meta = synthetic_meta(seed=0)
    assert ends(meta, make, 18) < 0.5 * ends(meta, Random, 18, seeds=range(5))


def test_the_first_configuration_is_the_past_tasks_mean_and_trials_are_full():
    meta = synthetic_meta(seed=2)
    study, objective = replay_study(meta, "t0", budget=27)
    steps = list(replay(study, objective, EmpiricalPrior(), Score(meta, "t0")))
    assert all(s["epoch"] == 9 or s["value"] is None for s in steps)
    best = np.nan_to_num(meta.best([t for t in meta.tasks if t != "t0"]))
    z = (best - best.mean(axis=1, keepdims=True)) / best.std(axis=1, keepdims=True)
    assert np.argsort(-z.mean(axis=0)).tolist().index(steps[0]["config_id"]) < 4


def test_weights_are_the_exact_posterior():
    meta = synthetic_meta(tasks=4, configs=12, epochs=5)
    study, _ = replay_study(meta, "t0", budget=20)
    study.Y[2, :3] = [0.3, 0.5, 0.6]
    searcher = TaskWeights(noise=0.1)
    last = np.full(12, 4)
    mean, std, w, past = searcher.posterior(study, last)
    raw = past.Z * past.scale[:, None, None] + past.location[:, None, None]
    B, noise = raw - raw.mean(axis=0), 0.1 * raw.std()
    A = B[:, 2, :3].T  # (3, T)
    K = A @ A.T + noise**2 * np.eye(3)
    rest = np.array([0.3, 0.5, 0.6]) - raw.mean(axis=0)[2, :3]
    np.testing.assert_allclose(w, A.T @ np.linalg.solve(K, rest), rtol=1e-6)
    at = B[:, :, 4].T  # (n, T)
    np.testing.assert_allclose(mean, raw.mean(axis=0)[:, 4] + at @ w, rtol=1e-6)
    cross = at @ A.T
    variance = (at**2).sum(axis=1) - np.einsum("ij,ji->i", cross, np.linalg.solve(K, cross.T))
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-4, atol=1e-6)


def test_budgeted_weights_look_no_further_than_the_budget():
    meta = synthetic_meta(tasks=4, configs=12, epochs=9)
    study, _ = replay_study(meta, "t0", budget=3)
    asked = []
    searcher = TaskWeights(budgeted=True)
    whole = searcher.posterior
    searcher.posterior = lambda s, last: asked.append(last.copy()) or whole(s, last)  # type: ignore[method-assign]
    study.ask(searcher)
    assert (asked[0] == 2).all()


def test_noise_must_be_positive():
    with pytest.raises(BadInput, match="noise=0"):
        EmpiricalPrior(noise=0)
    with pytest.raises(BadInput, match="noise=-1"):
        TaskWeights(noise=-1)
