"""AT2: better than random search on related tasks, one epoch at a time, its kernels by name."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.random import Random
from foretune.searchers.transfer.at2 import AT2, Trained, placed
from foretune.searchers.transfer.max_trial import shares
from foretune.searchers.transfer.past_curves import past_curves


def ends(meta, make, budget, tasks, seeds=(0,)):
    out = []
    for task in tasks:
        for seed in seeds:
            study, objective = replay_study(meta, task, budget=budget, seed=seed)
            *_, last = replay(study, objective, make(), Score(meta, task))
            out.append(last)
    return out


@pytest.mark.slow
def test_beats_random_search_and_recommends_a_good_one():
    meta = synthetic_meta(seed=0)
    found = ends(meta, AT2, 12, meta.tasks[:3])
    chance = ends(meta, Random, 12, meta.tasks[:3], seeds=range(5))
    assert np.mean([r["normalized_regret"] for r in found]) < 0.5 * np.mean(
        [r["normalized_regret"] for r in chance]
    )
    assert np.mean([r["recommended_rank"] for r in found]) < 8  # of 40
    assert all(r["epoch"] >= 1 for r in found)


def test_training_raises_the_evidence_and_the_posterior_follows_the_observations():
    meta = synthetic_meta(tasks=4, configs=20, epochs=6)
    study, _ = replay_study(meta, "t0", budget=10)
    trained = Trained(study, past_curves(study), ("OptiLand", "DeepPoly", "AccCurve"), 30)
    assert trained.trace[-1] > trained.trace[0] + 0.1
    Y = np.full((20, 6), np.nan)
    prior_mean, prior_std = trained.posterior(Y)
    Y[4] = truth = np.linspace(0.2, 0.9, 6)
    mean, std = trained.posterior(Y)
    assert np.abs(mean[4] - truth).mean() < 0.7 * np.abs(prior_mean[4] - truth).mean()
    assert (std[4] < prior_std[4]).all()


@pytest.mark.parametrize("task", ["MTBO", "DeepPoly"])
def test_task_kernels_that_learn_their_tasks_place_the_target_by_evidence(task):
    meta = synthetic_meta(tasks=4, configs=15, epochs=5)
    study, _ = replay_study(meta, "t0", budget=10)
    trained = Trained(study, past_curves(study), (task, "Flat", "RBF"), 15)
    c, e = np.repeat(np.arange(10), 5), np.tile(np.arange(5), 10)
    y = (trained.raw[2][c, e] - trained.means.mean()) / trained.unit
    K_T = trained.gram(np.full((15, 5), np.nan))
    moved = placed(K_T, trained.grid, c, e, y)
    before = trained.grid.target(K_T).log_marginal(c[-30:], e[-30:], y[-30:])
    assert trained.grid.target(moved).log_marginal(c[-30:], e[-30:], y[-30:]) >= before
    assert np.linalg.eigvalsh(moved)[0] > -1e-6


@pytest.mark.parametrize("task", ["MTBO", "DeepPoly"])
def test_a_suggestion_leans_on_the_tasks_that_the_observations_speak_for(task):
    """Shown part of a past task's own curves, a learned kernel moves the target; the shares are
    those of where it is now, not of the trained mean.
    """
    meta = synthetic_meta(tasks=4, configs=20, epochs=6)
    study, _ = replay_study(meta, "t0", budget=60)
    searcher = AT2(task=task, steps=30)
    learned = searcher.learned(study)
    unplaced = searcher.lean(learned, study, 0)
    named = []
    for twin in range(3):
        study.Y = np.full((20, 6), np.nan)
        study.Y[:10] = learned.raw[twin, :10]
        moved = placed(learned.gram(study.Y), learned.grid, *learned.observed(study.Y))
        named.append(searcher.lean(learned, study, 0))
        assert named[-1] == shares(moved[-1, :-1], learned.past.tasks)
    assert any(name != unplaced for name in named)


def test_unknown_kernels_are_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="OptiLand, MTBO"):
        AT2(task="Optiland")
