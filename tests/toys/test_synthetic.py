"""The synthetic meta-dataset has what its docstring promises."""

import numpy as np
from synthetic import synthetic_meta


def test_same_seed_same_curves_and_shape():
    a, b = (
        synthetic_meta(tasks=3, configs=10, epochs=5),
        synthetic_meta(tasks=3, configs=10, epochs=5),
    )
    np.testing.assert_array_equal(a.Y(), b.Y())
    assert a.Y().shape == (3, 10, 5)
    assert a.configs == b.configs


def test_goals_mirror_each_other():
    up, down = synthetic_meta(configs=10), synthetic_meta(configs=10, goal="minimize")
    np.testing.assert_allclose(down.Y(), up.Y() - 1.0)  # higher is better inside: -(1 - accuracy)
    assert down.metric == "valid_error_rate"


def test_some_configurations_diverge_and_curves_rise():
    meta = synthetic_meta()
    assert 0 < meta.failed("t0").any(axis=1).sum() < len(meta) / 3
    y = meta.curves("t0")
    whole = ~np.isnan(y).any(axis=1)
    assert (y[whole, -1] > y[whole, 0]).mean() > 0.9


def test_the_best_learning_rate_is_in_the_middle():
    meta = synthetic_meta()
    best = meta.configs[int(np.nanargmax(meta.best()[0]))]
    assert 1e-3 < best["learning_rate"] < 0.1
