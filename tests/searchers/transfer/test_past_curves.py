"""Past curves made comparable: location and scale, holes, configurations that no past task knows,
bounded metrics.
"""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.searchers.transfer.past_curves import (
    comparable,
    epoch_correlation,
    learned_from_past,
    past_curves,
    radial,
)
from foretune.study.plan import Plan
from foretune.study.study import Study


def curves(T: int = 5, n: int = 20, E: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Smooth curves of smooth configurations, (T, n, E); features (n, 2)."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(n, 2))
    good = -((X - 0.5) ** 2).sum(1, keepdims=True) + 0.3 * np.log1p(np.arange(E))
    return np.stack(
        [t + (1 + 0.2 * t) * (good + 0.01 * rng.normal(size=(n, E))) for t in range(T)]
    ), X


def test_full_tables_get_mean_zero_and_deviation_one():
    Y, X = curves()
    past = comparable(Y, X, tuple("abcde"), 20)
    np.testing.assert_allclose(past.Z.mean(axis=(1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(past.Z.std(axis=(1, 2)), 1)
    np.testing.assert_allclose(past.Z * past.scale[:, None, None] + past.location[:, None, None], Y)


def test_holes_are_filled_near_the_truth():
    Y, X = curves()
    whole = comparable(Y, X, tuple("abcde"), 20).Z
    holed = Y.copy()
    holed[1, 3:9, 4:] = np.nan  # stopped early
    holed[2, 12:15] = np.nan  # never trained
    past = comparable(holed, X, tuple("abcde"), 20)
    assert np.isfinite(past.Z).all()
    hidden = np.isnan(holed)
    assert np.abs(past.Z - whole)[hidden].mean() < 0.15 * np.abs(whole)[hidden].mean() + 0.05


def test_a_task_known_only_at_good_configurations_keeps_its_place():
    Y, X = curves()
    best = np.argsort(-Y[0].max(axis=1))[:6]
    holed = Y.copy()
    holed[3, np.setdiff1d(np.arange(20), best)] = np.nan
    past = comparable(holed, X, tuple("abcde"), 20)
    full = comparable(Y, X, tuple("abcde"), 20)
    assert past.location[3] == pytest.approx(full.location[3], abs=0.2 * full.scale[3])
    assert past.scale[3] == pytest.approx(full.scale[3], rel=0.25)


def test_a_configuration_that_no_task_knows_is_guessed_from_its_neighbours_and_left_open():
    Y, X = curves()
    holed = Y.copy()
    holed[:, 7] = np.nan
    past = comparable(holed, X, tuple("abcde"), 20)
    full = comparable(Y, X, tuple("abcde"), 20)
    assert np.abs(past.mean[7] - full.mean[7]).mean() < 0.6
    assert past.unexplained[7, 7] > 0
    assert not past.unexplained[:7].any() and not past.unexplained[8:].any()


def test_past_of_a_study_with_new_and_shared_configurations_and_more_epochs():
    meta = synthetic_meta(tasks=3, configs=20, epochs=6)
    rng = np.random.default_rng(5)
    pool = meta.configs[5:15] + meta.space.sample(3, rng)
    plan = Plan(task="new", metric=meta.metric, goal=meta.goal, max_epoch=9, budget=20)
    past = past_curves(Study(meta.space, pool, plan, past=meta))
    assert past.pool == 13
    assert past.Z.shape == (3, 23, 9)  # the pool, then the ten that only the past knows
    assert np.isfinite(past.Z).all()
    own = past.Z[0, :10, :6] * past.scale[0] + past.location[0]
    truth = meta.curves("t0")[5:15]
    known = np.isfinite(truth)
    np.testing.assert_allclose(own[known], truth[known])


def test_a_past_in_which_everything_failed_is_refused():
    meta = synthetic_meta(tasks=2, configs=10, epochs=4)
    dead = meta.build(
        meta.space,
        dict(zip(meta.config_ids, meta.configs, strict=True)),
        meta.table.assign(**{meta.metric: np.nan}),
        **meta.about,
    )
    plan = Plan(task="new", metric=meta.metric, goal=meta.goal, max_epoch=4, budget=20)
    with pytest.raises(BadInput, match=r"none of the 2 past task\(s\) has two finite values"):
        past_curves(Study(meta.space, meta.configs, plan, past=dead))


def test_diverged_cells_count_as_the_worst_value():
    meta = synthetic_meta(tasks=2, configs=30, epochs=6)
    plan = Plan(task="new", metric=meta.metric, goal=meta.goal, max_epoch=6, budget=20)
    past = past_curves(Study(meta.space, meta.configs, plan, past=meta))
    dead = meta.failed("t0").any(axis=1)
    assert dead.any()
    raw = past.Z[0] * past.scale[0] + past.location[0]
    np.testing.assert_allclose(raw[dead, -1], np.nanmin(meta.curves("t0")))


def test_what_was_learned_is_kept_for_the_same_past_and_pool_only():
    meta = synthetic_meta(tasks=2, configs=10, epochs=4)
    plan = Plan(task="new", metric=meta.metric, goal=meta.goal, max_epoch=4, budget=20)
    made = []
    for pool in (meta.configs, meta.configs, meta.configs[:5]):
        study = Study(meta.space, pool, plan, past=meta)
        learned_from_past(study, "test", lambda past: made.append(past.pool) or past)
    assert made == [10, 5]


def test_kernels():
    assert radial(np.zeros((1, 2)), np.ones((1, 2)), 2.0)[0, 0] == pytest.approx(np.exp(-2 / 8))
    Q = epoch_correlation(np.array([1.0, 3.0]), np.array([1.0, 3.0]), 0.25, 2.0)
    np.testing.assert_allclose(
        Q, [[1, 0.25 + 0.75 * np.exp(-np.log(2) / 2)], [0.25 + 0.75 * np.exp(-np.log(2) / 2), 1]]
    )
