"""The deep kernel's gradient, and the posterior kept up to date against one computed anew."""

import numpy as np
import pytest

from foretune.searchers.gray_box.dyhpo_surrogate import (
    SLOPE,
    DeepKernel,
    Posterior,
    Scaling,
    fit,
)


def data(n: int = 12, d: int = 3, epochs: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.random((n, d + 1)), rng.normal(size=(n, epochs)), rng.normal(size=n)


@pytest.mark.parametrize("curve", [True, False])
def test_the_gradient_is_that_of_autograd(curve):
    """The same likelihood in torch, by the paper's formulas, and its gradient by autograd."""
    import torch
    from torch.nn.functional import leaky_relu

    x, curves, y = data()
    net = DeepKernel(3, curve, np.random.default_rng(0))
    value, gradient = net.loss(x, curves, y)
    p = {name: torch.tensor(v, requires_grad=True) for name, v in net.p.items()}
    inputs, told, targets = (torch.as_tensor(a) for a in (x, curves, y))
    hidden = leaky_relu(inputs @ p["w1"] + p["b1"], SLOPE)
    if curve:
        response = told.unfold(1, 3, 1) @ p["conv"] + p["conv_b"]
        hidden = torch.cat([hidden, response.amax(dim=1)], dim=1)
    phi = (hidden @ p["w2"] + p["b2"]) / p["log_length"].exp()
    squares = ((phi[:, None] - phi[None]) ** 2).sum(-1)
    noise = (2 * p["log_noise"]).exp() + 1e-4
    K = (2 * p["log_scale"]).exp() * torch.exp(-0.5 * squares) + noise * torch.eye(
        len(y), dtype=torch.double
    )
    law = torch.distributions.MultivariateNormal(p["mean"].expand(len(y)), K)
    loss = -law.log_prob(targets) / len(y) - 0.5 * np.log(2 * np.pi)
    loss.backward()
    assert value == pytest.approx(loss.item())
    assert set(gradient) == set(p)
    for name, parameter in p.items():
        np.testing.assert_allclose(gradient[name], parameter.grad, rtol=1e-6, atol=1e-9)


def test_the_loss_is_the_marginal_likelihood():
    from scipy.stats import multivariate_normal

    x, curves, y = data()
    net = DeepKernel(3, True, np.random.default_rng(0))
    phi = net.forward(x, curves)[0]
    want = multivariate_normal.logpdf(
        y, np.zeros(len(y)), net.kernel(phi, phi) + net.noise * np.eye(len(y))
    )
    assert net.loss(x, curves, y)[0] * len(y) == pytest.approx(
        -want - 0.5 * len(y) * np.log(2 * np.pi)
    )


def test_without_the_curve_the_curve_changes_nothing():
    x, curves, _ = data()
    net = DeepKernel(3, False, np.random.default_rng(0))
    np.testing.assert_array_equal(net.forward(x, curves)[0], net.forward(x, 0 * curves)[0])


def test_fitting_explains_a_function_of_the_configuration():
    rng = np.random.default_rng(3)
    x, curves = rng.random((80, 3)), np.zeros((80, 5))
    y = np.sin(6 * x[:, 0])
    net = DeepKernel(2, True, np.random.default_rng(0))
    assert fit(
        net, x[:60], curves[:60], y[:60], steps=150, lr=0.01, batch=64, rng=np.random.default_rng(0)
    )
    posterior = Posterior(net)
    posterior.condition(posterior.features(x[:60], curves[:60]), y[:60])
    mean, _, _ = posterior.predict(posterior.features(x[60:], curves[60:]))
    assert np.sqrt(np.mean((mean - y[60:]) ** 2)) < 0.15 * y.std()


def test_appending_equals_conditioning_anew():
    x, curves, y = data(150)
    net = DeepKernel(3, True, np.random.default_rng(0))
    anew, grown = Posterior(net), Posterior(net)
    phi = anew.features(x, curves)
    anew.condition(phi[:140], y[:140])
    for k in range(140):
        grown.append(phi[k], y[k])
    a, b = anew.predict(phi[140:]), grown.predict(phi[140:])
    np.testing.assert_allclose(a[0], b[0], atol=1e-8)
    np.testing.assert_allclose(a[1], b[1], atol=1e-8)


@pytest.mark.parametrize("factor", [1.0, 100.0, 1e4, 1e-3])
def test_scaling_does_not_depend_on_the_unit(factor):
    values = np.array([0.1, 0.5, 0.52, 0.55, 0.6, np.nan])
    np.testing.assert_allclose(
        Scaling.of(values * factor)(values * factor), Scaling.of(values)(values)
    )


def test_scaling_of_wild_values():
    values = np.array([-0.3, -0.5, -0.69, -0.69, -0.7, -1e34, np.nan, -np.inf])
    scaled = Scaling.of(values)(values)
    assert np.isfinite(scaled).all() and scaled[0] > 0.9 and scaled[5] == scaled[6] == -3.0
    assert (Scaling.of(np.full(4, 0.5))(np.full(4, 0.5)) == 0).all()
    assert Scaling.of(np.array([np.nan]))(np.array([np.nan]))[0] == -3.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_log_targets_keep_the_order_and_span_decades(sign):
    """A loss (sign -1) is told negated, as a study holds it: 1e-3 is as far from 1 as 1e3 is."""
    own = np.array([1e-3, 1e-2, 0.1, 1.0, 10.0])
    scaling = Scaling.of(sign * own, log=sign)
    label = scaling.label(sign * own)
    np.testing.assert_allclose(np.diff(label), sign * np.log(10))
    standard = scaling(sign * own)
    assert (np.diff(standard[standard > scaling.floor]) * sign > 0).all()
    assert (scaling(sign * np.array([0.0, -1.0, np.nan])) == scaling.floor).all()
    for value in own[standard > scaling.floor]:
        told, spread = scaling.unit(float(scaling(np.array([sign * value]))[0]), 0.1, sign)
        assert told == pytest.approx(value) and spread == pytest.approx(
            0.1 * scaling.spread * value
        )


def test_raw_targets_are_in_the_metrics_unit():
    scaling = Scaling.of(-np.array([1.0, 2.0, 4.0]))
    value, spread = scaling.unit(float(scaling(np.array([-2.0]))[0]), 0.5, -1.0)
    assert (value, spread) == pytest.approx((2.0, 0.5 * scaling.spread))
