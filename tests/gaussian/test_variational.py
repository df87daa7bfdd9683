"""The published variational inference: against gpytorch, against exact inference, and its
schedule.
"""

import numpy as np
import pytest
import torch
from synthetic import synthetic_meta

from foretune.gaussian.kernels.configuration import CONFIGURATION_KERNELS, Layout
from foretune.gaussian.kernels.fidelity import FIDELITY_KERNELS
from foretune.gaussian.kernels.task import TASK_KERNELS, landscape_distances
from foretune.gaussian.variational import Rows, Schedule, Variational, refine, variational

QUICK = Schedule(inducing=30, batch=100, epochs=25)


@pytest.fixture(scope="module")
def past():
    meta = synthetic_meta(tasks=3, configs=12, epochs=6, seed=1)
    Y = meta.Y()
    return Layout.of(meta.space), meta.space.encode(meta.configs), Y, *landscape_distances(Y)


def test_elbo_is_that_of_gpytorch(past):
    import gpytorch

    layout, X, Y, D, R = past
    rows = Rows.of(Y)
    generator = torch.Generator().manual_seed(0)
    Z, _ = rows.split(10, generator)
    own = Variational(layout, X, D, R, ("OptiLand", "DeepPoly", "AccCurve"), Z, 6)
    with torch.no_grad():
        own.m.copy_(torch.randn(10, generator=generator))
        own.C.copy_(torch.tril(0.3 * torch.randn(10, 10, generator=generator)) + torch.eye(10))
        mean, variance = own.marginals(rows)
        q = gpytorch.distributions.MultivariateNormal(
            own.m, torch.tril(own.C) @ torch.tril(own.C).T
        )
        p = gpytorch.distributions.MultivariateNormal(torch.zeros(10), torch.eye(10))
        divergence = torch.distributions.kl_divergence(q, p)
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        likelihood.noise = own.noise
        f = gpytorch.distributions.MultivariateNormal(mean, torch.diag(variance))
        want = likelihood.expected_log_prob(rows.y, f).mean() - divergence / 500
        assert float(own.elbo(rows, 500)) == pytest.approx(float(want), rel=1e-4)


def test_untouched_inducing_values_give_the_prior_and_full_ones_the_exact_posterior(past):
    """q = p gives the prior; with Z = all rows and the optimal q(v) (Titsias 2009) the means are
    those of exact regression.
    """
    layout, X, Y, D, R = past
    rows = Rows.of(Y)
    every = torch.arange(0, len(rows), 3)
    rows = rows.take(every)
    own = Variational(layout, X, D, R, ("OptiLand", "Flat", "Matern"), rows, 6)
    with torch.no_grad():
        mean, variance = own.marginals(rows)
        assert torch.allclose(mean, torch.zeros(len(rows)))
        K_T, K_C, K_E = own.factors()
        c, e = len(rows) + rows.config, len(rows) + rows.epoch
        K = (K_T[rows.task][:, rows.task] * K_C[c][:, c] * K_E[e][:, e]).double()
        assert torch.allclose(variance.double(), torch.diagonal(K), rtol=1e-3)
        s2 = float(own.noise)
        exact = K @ torch.linalg.solve(K + s2 * torch.eye(len(K)), rows.y.double())
        L = torch.linalg.cholesky(K + 1e-4 * torch.diagonal(K).mean() * torch.eye(len(K)))
        S = torch.linalg.inv(torch.eye(len(K)) + L.T @ L / s2)
        own.m.copy_((S @ L.T @ rows.y.double() / s2).float())
        assert np.abs(own.marginals(rows)[0].double() - exact).max() < 0.02
        # there the bound is tight: log p(y)
        own.C.copy_(torch.linalg.cholesky(S).float())
        noisy = K + s2 * torch.eye(len(K))
        normal = torch.distributions.MultivariateNormal(torch.zeros(len(K)).double(), noisy)
        want = float(normal.log_prob(rows.y.double())) / len(K)
        assert float(own.elbo(rows, len(rows))) == pytest.approx(want, abs=0.02)
        variance = torch.diagonal(K - K @ torch.linalg.solve(noisy, K))
        assert torch.allclose(own.marginals(rows)[1].double(), variance, atol=2e-3)


def test_training_explains_held_out_rows(past):
    layout, X, Y, D, R = past
    test, rest = Rows.of(Y).split(40, torch.Generator().manual_seed(0))
    trace = []
    process = variational(
        layout, X, D, R, rest, 6, schedule=QUICK, on_epoch=lambda _, value: trace.append(value)
    )
    assert len(trace) == 25 and trace[-1] > trace[0] + 0.3
    with torch.no_grad():
        held_out = float(process.elbo(test, len(rest)))
        spread = float(test.y.std())
        constant = -0.5 - np.log(spread) - 0.5 * np.log(2 * np.pi)
        assert held_out > constant  # better than the test rows' own mean and variance
    fixed = [k for c in layout.columns if c.one_hot for k in range(c.first, c.stop)]
    # choices of Z stay as drawn
    assert set(process.Z_x.detach()[:, fixed].unique().tolist()) <= {0.0, 1.0}
    before = float(process.elbo(rest, len(rest)).detach())
    refine(process, rest, QUICK, done=25)
    assert float(process.elbo(rest, len(rest)).detach()) > before - 0.05


def test_all_64_products_train(past):
    layout, X, Y, D, R = past
    rows = Rows.of(Y).take(torch.arange(60))
    schedule = Schedule(inducing=8, batch=30, epochs=1)
    for task in TASK_KERNELS:
        for configuration in CONFIGURATION_KERNELS:
            for fidelity in FIDELITY_KERNELS:
                seen = []
                variational(
                    layout,
                    X,
                    D,
                    R,
                    rows,
                    6,
                    (task, configuration, fidelity),
                    schedule,
                    0,
                    lambda _, v, s=seen: s.append(v),
                )
                assert np.isfinite(seen).all() and len(seen) == 1


def test_schedule_warms_up_then_decays_towards_the_later_epochs():
    schedule = Schedule(epochs=200, later=300)
    factors = [schedule.factor(k, 29) for k in range(200 * 29)]
    assert factors[0] == pytest.approx(1 / 58) and factors[57] == 1.0
    assert np.all(np.diff(factors[58:]) < 0)
    assert factors[-1] == pytest.approx(0.6, abs=0.01)
