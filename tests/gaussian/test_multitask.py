"""The exact multi-task process against dense algebra: evidence and its gradient, the target's prior
and posterior.
"""

import numpy as np
import pytest
import torch
from synthetic import synthetic_space

from foretune.gaussian.gp import Exact
from foretune.gaussian.kernels.configuration import CONFIGURATION_KERNELS, Layout
from foretune.gaussian.kernels.fidelity import FIDELITY_KERNELS
from foretune.gaussian.kernels.task import TASK_KERNELS, landscape_distances
from foretune.gaussian.multitask import Grid, Product, factor_gradients, train


def spd(n: int, rng: np.random.Generator) -> np.ndarray:
    A = rng.normal(size=(n, n))
    return A @ A.T / n + 0.1 * np.eye(n)


def test_evidence_and_gradients_equal_dense_and_finite_differences():
    rng = np.random.default_rng(0)
    grams, y, noise = [spd(n, rng) for n in (3, 4, 5)], rng.normal(size=(3, 4, 5)), 0.3

    def dense(factors, s2):
        K = np.kron(np.kron(factors[0], factors[1]), factors[2]) + s2 * np.eye(60)
        return Exact.fit(K, y.ravel()).log_marginal

    value, gradients, by_noise = factor_gradients(grams, noise, y)
    assert value == pytest.approx(dense(grams, noise))
    assert by_noise == pytest.approx(
        (dense(grams, noise + 1e-5) - dense(grams, noise - 1e-5)) / 2e-5, rel=1e-4
    )
    for k, G in enumerate(gradients):
        direction = rng.normal(size=grams[k].shape)
        direction = direction + direction.T
        moved = [
            [g + sign * 1e-5 * direction if j == k else g for j, g in enumerate(grams)]
            for sign in (1, -1)
        ]
        change = (dense(moved[0], noise) - dense(moved[1], noise)) / 2e-5
        assert (G * direction).sum() == pytest.approx(change, rel=1e-4)


def test_target_given_past_and_its_own_observations_equals_dense():
    rng = np.random.default_rng(1)
    K_T, K_C, K_E, noise = spd(4, rng), spd(5, rng), spd(6, rng), 0.2
    Y = rng.normal(size=(3, 5, 6))
    c, e = np.array([0, 0, 4, 2]), np.array([0, 1, 3, 5])
    y = rng.normal(size=4)
    mean, std = Grid.of(K_C, K_E, noise, Y).target(K_T).posterior(c, e, y)
    K = np.kron(np.kron(K_T, K_C), K_E)
    at = np.concatenate([np.arange(90), 90 + c * 6 + e])
    everything = np.arange(90, 120)
    oo = K[np.ix_(at, at)] + noise * np.eye(len(at))
    of = K[np.ix_(at, everything)]
    np.testing.assert_allclose(
        mean.ravel(), of.T @ np.linalg.solve(oo, np.r_[Y.ravel(), y]), rtol=1e-6
    )
    variance = np.diag(K)[everything] - np.einsum("ij,ij->j", of, np.linalg.solve(oo, of))
    np.testing.assert_allclose(std.ravel(), np.sqrt(variance), rtol=1e-4)


def test_evidence_of_the_target_is_the_difference_of_joint_evidences():
    rng = np.random.default_rng(2)
    K_T, K_C, K_E, noise = spd(3, rng), spd(3, rng), spd(4, rng), 0.2
    Y, c, e, y = rng.normal(size=(2, 3, 4)), np.array([0, 1]), np.array([2, 0]), rng.normal(size=2)
    K = np.kron(np.kron(K_T, K_C), K_E)
    at = np.concatenate([np.arange(24), 24 + c * 4 + e])
    joint = Exact.fit(K[np.ix_(at, at)] + noise * np.eye(26), np.r_[Y.ravel(), y]).log_marginal
    past = Exact.fit(K[:24, :24] + noise * np.eye(24), Y.ravel()).log_marginal
    assert Grid.of(K_C, K_E, noise, Y).target(K_T).log_marginal(c, e, y) == pytest.approx(
        joint - past
    )


def test_an_unknown_constant_is_followed():
    rng = np.random.default_rng(3)
    K_T, K_C, K_E = spd(3, rng), np.eye(4), 0.01 * np.eye(5)
    Y = 0.1 * rng.normal(size=(2, 4, 5))
    c, e = np.repeat(np.arange(3), 5), np.tile(np.arange(5), 3)
    target = Grid.of(K_C, K_E, 0.01, Y).target(K_T)
    without, _ = target.posterior(c, e, np.full(15, 2.0))
    with_, _ = target.posterior(c, e, np.full(15, 2.0), offset=3.0)
    assert abs(without[3]).max() < 0.5  # a configuration that was not observed
    assert with_[3] == pytest.approx(2.0, abs=0.2)


def test_products_learn(subtests):
    """A Latin square: each pair of kernels of two rooms stands in one product."""
    tasks, fidelities = list(TASK_KERNELS), list(FIDELITY_KERNELS)
    space, rng = synthetic_space(), np.random.default_rng(4)
    X = space.encode(space.sample(8, rng))
    Y = X[:, :1] * np.log1p(np.arange(6)) + 0.05 * rng.normal(size=(3, 8, 6))
    Y = (Y - Y.mean(axis=(1, 2), keepdims=True)) / Y.std()
    D, R = landscape_distances(np.concatenate([Y, np.full((1, 8, 6), np.nan)]))
    for i, task in enumerate(tasks):
        for j, configuration in enumerate(CONFIGURATION_KERNELS):
            fidelity = fidelities[(i + j) % len(fidelities)]
            with subtests.test(task=task, configuration=configuration, fidelity=fidelity):
                torch.manual_seed(0)
                model = Product(Layout.of(space), 4, task, configuration, fidelity)
                trace = train(model, D, R, X, Y, steps=6)
                assert len(trace) == 6 and trace[-1] > trace[0]
