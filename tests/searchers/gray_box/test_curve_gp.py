"""The curve process: gradient, posterior against a dense computation, fantasies."""

import numpy as np
import pytest

from foretune.searchers.gray_box.curve_gp import (
    JITTER,
    CurvePosterior,
    Observations,
    Prior,
    fit,
    levels,
    matern,
    negative_log_posterior,
    spread_out,
)


@pytest.fixture
def small():
    """Seven configurations in two columns, five levels, eleven observations."""
    rng = np.random.default_rng(0)
    x, u = rng.random((7, 2)), np.linspace(0, 1, 5)
    points = [
        (0, 0),
        (0, 1),
        (0, 2),
        (3, 0),
        (3, 1),
        (5, 0),
        (5, 1),
        (5, 2),
        (5, 3),
        (5, 4),
        (6, 0),
    ]
    return x, u, points, rng.normal(size=len(points)), np.array([-1.0, -0.3, -0.8, -3.0, 0.1, -0.4])


def test_levels():
    assert levels(1).tolist() == [1]
    assert levels(10).tolist() == [1, 2, 3, 4, 5, 6, 8, 10]
    assert levels(51)[-1] == 51 and (np.diff(levels(1000)) > 0).all()


def test_ranks_with_ties_do_not_depend_on_the_scale():
    x = np.array([[1e-9], [1e-3], [1e-3], [975.0]])
    np.testing.assert_allclose(spread_out(x)[:, 0], [0.125, 0.5, 0.5, 0.875])
    np.testing.assert_array_equal(spread_out(x, finite=False), x)


def dense(x, u, theta, prior):
    """Covariance of all (configuration, level) points, configuration first."""
    s, p, r = prior.shapes(u)
    a = np.exp(2 * theta[:4])
    c = matern(x, x, np.exp(theta[4:]))[0]
    ones = np.ones_like(c)
    return a[0] * np.kron(ones, s) + a[1] * np.kron(c, p) + a[2] * np.kron(np.eye(len(x)), r)


def test_the_posterior_is_the_dense_one(small):
    x, u, points, y, theta = small
    prior = Prior()
    k = dense(x, u, theta, prior)
    at = [i * 5 + h for i, h in points]
    noise = np.exp(2 * theta[3]) + JITTER
    inverse = np.linalg.inv(k[np.ix_(at, at)] + noise * np.eye(len(at)))
    mean = (k[:, at] @ inverse @ y).reshape(7, 5)
    variance = np.diag(k - k[:, at] @ inverse @ k[at]).reshape(7, 5)
    one, all_ = (CurvePosterior(x, u, theta, prior) for _ in range(2))
    for i, h in points:
        one.add(i, h)
    all_.add_all(points)
    for posterior in (one, all_):
        np.testing.assert_allclose(posterior.mean(y), mean, atol=1e-8)
        np.testing.assert_allclose(posterior.deviation() ** 2, variance, atol=1e-7)


def test_fantasies_lower_the_deviation_as_if_observed(small):
    x, u, points, _, theta = small
    posterior, told = (CurvePosterior(x, u, theta, Prior()) for _ in range(2))
    posterior.add_all(points)
    told.add_all([*points, (1, 2), (3, 2)])
    np.testing.assert_allclose(posterior.deviation([(1, 2), (3, 2)]), told.deviation(), atol=1e-7)
    assert posterior.n == len(points)


def test_the_gradient_is_the_slope(small):
    x, u, points, y, theta = small
    ids, level = np.array(points).T
    data, prior = Observations(ids, level, y), Prior()
    _, gradient = negative_log_posterior(theta, x, data, prior.shapes(u), prior)
    for j in range(len(theta)):
        ends = [
            negative_log_posterior(
                theta + d * np.eye(len(theta))[j], x, data, prior.shapes(u), prior
            )[0]
            for d in (1e-5, -1e-5)
        ]
        assert gradient[j] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-6)


def test_the_value_is_the_log_density_and_prior(small):
    from scipy.stats import multivariate_normal

    x, u, points, y, theta = small
    ids, level = np.array(points).T
    prior = Prior()
    at = [i * 5 + h for i, h in points]
    matrix = dense(x, u, theta, prior)[np.ix_(at, at)] + (np.exp(2 * theta[3]) + JITTER) * np.eye(
        len(at)
    )
    standard = (theta - prior.centre(2)) / prior.spread(2)
    want = (
        -multivariate_normal.logpdf(y, np.zeros(len(y)), matrix)
        - 0.5 * len(y) * np.log(2 * np.pi)
        + 0.5 * standard @ standard
    )
    assert negative_log_posterior(theta, x, Observations(ids, level, y), prior.shapes(u), prior)[
        0
    ] == pytest.approx(want)


def test_fitting_finds_the_column_that_matters():
    rng = np.random.default_rng(2)
    x, u = rng.random((30, 2)), np.linspace(0, 1, 4)
    ids, level = np.repeat(np.arange(30), 2), np.tile([0, 1], 30)
    y = np.sin(5 * x[ids, 0]) + 0.2 * level
    theta = fit(x, Observations(ids, level, (y - y.mean()) / y.std()), u, Prior())
    assert theta[4] < theta[5] - 0.5
