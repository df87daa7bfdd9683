"""The Gaussian process of Siamese-BHO against closed forms."""

import math

import gpytorch
import numpy as np
import torch

from foretune.searchers.pictures.siamese_surrogate import (
    Kernel,
    PriorMean,
    fit_kernel,
    gaussian_process,
    log_evidence,
    predict,
    squared_gaps,
    utility,
)


def at(mean, X):
    with torch.no_grad():
        return mean(torch.as_tensor(X, dtype=torch.double)).numpy()


def test_a_prior_mean_is_exact_where_it_is_known_and_between_its_neighbours_elsewhere():
    X = np.array([[0.0], [0.2], [0.4], [0.6]])
    mean = PriorMean(X, np.array([1.0, 3.0, 2.0, 2.0]), constant=0.5)
    assert at(mean, X).tolist() == [1.5, 3.5, 2.5, 2.5]
    w = np.exp(-0.5 * ((0.1 - X[:, 0]) / 0.2) ** 2)  # width = distance of neighbours
    assert math.isclose(
        at(mean, [[0.1]])[0], 0.5 + w @ [1.0, 3.0, 2.0, 2.0] / w.sum(), rel_tol=1e-9
    )
    assert at(mean, np.zeros((2, 3, 1))).shape == (2, 3)
    assert at(PriorMean(np.empty((0, 1)), np.empty(0), 0.25), [[0.3]]).tolist() == [0.25]


def test_the_posterior_with_a_prior_mean_is_the_closed_form():
    rng = np.random.default_rng(0)
    X, new = rng.random((6, 3)), rng.random((4, 3))
    known, values = rng.random((9, 3)), rng.normal(size=9)
    y = rng.normal(size=6)
    mean = PriorMean(known, values)
    kernel = Kernel(np.array([0.3, 0.5, 0.9]), 0.7, 0.02, constant=0.4)
    got, deviation = predict(gaussian_process(X, y, mean, kernel), new)

    def k(A, B):
        return 0.7 * np.exp(-0.5 * (((A[:, None] - B[None]) / kernel.lengths) ** 2).sum(axis=2))

    m, m_new = (at(PriorMean(known, values), Z) + 0.4 for Z in (X, new))
    inverse = np.linalg.inv(k(X, X) + 0.02 * np.eye(6))
    assert np.allclose(got, m_new + k(new, X) @ inverse @ (y - m), atol=1e-8)
    assert np.allclose(
        deviation**2, 0.7 - np.einsum("ij,jk,ik->i", k(new, X), inverse, k(new, X)), atol=1e-8
    )


def test_far_from_all_observations_the_prediction_is_the_past_plus_the_constant():
    X = np.array([[0.0, 0.0], [0.05, 0.0]])
    known = np.array([[0.0, 0.0], [0.05, 0.0], [1.0, 1.0]])
    mean = PriorMean(known, np.array([0.1, 0.2, 5.0]))
    model = gaussian_process(
        X, np.array([2.1, 2.2]), mean, Kernel(np.array([0.1, 0.1]), 1.0, 0.01, constant=2.0)
    )
    got, deviation = predict(model, np.array([[1.0, 1.0]]))
    assert math.isclose(got[0], 7.0, abs_tol=1e-6) and math.isclose(deviation[0], 1.0, abs_tol=1e-6)


def test_the_evidence_is_that_of_a_multivariate_student_t():
    """s integrated out under its inverse gamma prior leaves a t distribution: compared with
    numerical integration over s.
    """
    rng = np.random.default_rng(1)
    X, r = rng.random((5, 2)), rng.normal(size=5)
    gaps = squared_gaps(X, [[0], [1]])
    lengths = np.array([0.8, 0.8])  # where the log prior is 0
    K = np.exp(-0.5 * gaps.sum(axis=0) / 0.64) + 0.1 * np.eye(5)
    s = np.exp(np.linspace(-9, 9, 20_001))
    quadratic = r @ np.linalg.solve(K, r)
    log_density = (
        -2.5 * np.log(2 * np.pi * s)
        - 0.5 * np.linalg.slogdet(K)[1]
        - quadratic / (2 * s)
        + (-(2 + 1) * np.log(s) - 1 / s)
        + np.log(s)
    )
    direct = np.log(np.trapezoid(np.exp(log_density), np.log(s)))
    constant = math.lgamma(2 + 2.5) - 2.5 * math.log(2 * math.pi)
    assert math.isclose(
        log_evidence(gaps, lengths, 0.1, r, level=0.0)[0] + constant, direct, rel_tol=1e-6
    )
    with_level, _ = log_evidence(gaps, lengths, 0.1, r + 3.0, level=10.0)
    # a shift costs little with a constant
    assert with_level > log_evidence(gaps, lengths, 0.1, r + 3.0, level=0.0)[0]


def test_fitting_finds_which_columns_matter_and_the_level():
    rng = np.random.default_rng(2)
    X = rng.random((25, 2))
    r = np.sin(9 * X[:, 0]) + 4.0
    kernel = fit_kernel(X, r, [[0], [1]])
    assert kernel.lengths[0] <= 0.6 < kernel.lengths[1] and kernel.noise < 0.05
    assert abs(kernel.constant - 4.0) < 1.0
    assert fit_kernel(X, r, [[0], [1]], level=0.0).constant == 0.0
    alone = fit_kernel(X[:1], r[:1], [[0], [1]])
    assert np.isfinite(alone.lengths).all() and alone.signal > 0


def test_acquisition_functions_are_boTorch_s_in_closed_form():
    X, y = np.array([[0.2], [0.8]]), np.array([0.0, 1.0])
    model = gaussian_process(X, y, PriorMean(X, y), Kernel(np.array([0.2]), 1.0, 0.01))
    new = np.linspace(0, 1, 7)[:, None]
    mean, std = predict(model, new)
    assert np.allclose(utility(model, new, "ucb", 1.0, 4.0), mean + 2 * std)
    z = (mean - 0.6) / std
    normal = torch.distributions.Normal(0.0, 1.0)
    improvement = std * (
        np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) + z * normal.cdf(torch.as_tensor(z)).numpy()
    )
    assert np.allclose(utility(model, new, "ei", 0.6, 4.0), np.log(improvement), atol=1e-6)
    assert isinstance(model.mean_module, gpytorch.means.Mean)
