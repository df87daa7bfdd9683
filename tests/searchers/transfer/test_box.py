"""The box of past bests, and both searchers that stay inside it."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.gray_box.random import Random
from foretune.searchers.transfer.box import BoxBO, BoxBOHB, inside


def test_the_box_spans_the_best_of_every_past_task():
    meta = synthetic_meta(tasks=4, configs=30, epochs=5)
    study, _ = replay_study(meta, "t0", budget=10)
    box = inside(study, 2)
    best = np.nan_to_num(meta.best(["t1", "t2", "t3"]), nan=-1)
    spanning = np.unique(np.argsort(-best, axis=1)[:, :2])
    assert box[spanning].all()
    low, high = meta.X[spanning].min(axis=0), meta.X[spanning].max(axis=0)
    np.testing.assert_array_equal(
        box, ((low - 1e-9 <= meta.X) & (high + 1e-9 >= meta.X)).all(axis=1)
    )
    assert inside(study, 1).sum() <= box.sum() < 30


@pytest.mark.parametrize("make", [BoxBO, BoxBOHB])
def test_stays_inside_while_the_box_lasts_and_beats_random_search(make):
    meta, found, chance = synthetic_meta(seed=0), [], []
    for task in meta.tasks[:3]:
        for kind, seeds, out in ((make, (0,), found), (Random, range(5), chance)):
            for seed in seeds:
                study, objective = replay_study(meta, task, budget=18, seed=seed)
                *_, last = replay(study, objective, kind(), Score(meta, task))
                out.append(last["normalized_regret"])
            if kind is make:
                box = inside(study, 3)
                assert box[study.started].all() or box.sum() < len(study.started)
    assert np.mean(found) < np.mean(chance)


def test_the_single_task_process_interpolates_and_recommends_what_it_knows():
    meta = synthetic_meta(tasks=3, configs=20, epochs=5)
    study, objective = replay_study(meta, "t0", budget=12)
    searcher = BoxBO()
    list(replay(study, objective, searcher, Score(meta, "t0")))
    mean, std = searcher.predicted(study)
    seen = np.isfinite(study.Y)
    assert np.abs(mean[seen] - study.Y[seen]).mean() < 0.5 * study.Y[seen].std() + 0.01
    assert std[seen].mean() < std[~seen].mean()
    guess = searcher.recommend(study)
    assert inside(study, 3)[guess] or study.epoch[guess] > 0
