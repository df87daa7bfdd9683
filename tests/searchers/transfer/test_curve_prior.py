"""The prior learned from past curves against dense algebra, and what it believes of tasks like and
unlike the past.
"""

import numpy as np
import pytest

from foretune.searchers.transfer.curve_prior import Amplitudes, CurvePrior, Hypothesis
from foretune.searchers.transfer.past_curves import comparable
from foretune.searchers.transfer.placement import SCALES

T, n, E = 6, 12, 9
LADDER = np.array([0, 3, 8])


def past(seed: int = 0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Curves (T, n, E) that rank the configurations alike, at another level and scale for each
    task; features (n, 3).
    """
    rng = np.random.default_rng(seed)
    good = np.linspace(-1, 1, n)[:, None] + np.log1p(np.arange(E))
    tasks = [
        1
        + 0.2 * t
        + (0.2 + 0.05 * t)
        * (good + 0.2 * rng.normal(size=(n, 1)) + noise * rng.normal(size=(n, E)))
        for t in range(T)
    ]
    return np.stack(tasks), rng.uniform(size=(n, 3))


def prior(particle: float = 0.8, **options) -> CurvePrior:
    Y, X = past()
    return CurvePrior(
        comparable(Y, X, tuple("abcdef"), n), Amplitudes(), particle=particle, **options
    )


@pytest.mark.parametrize("particle", [0.0, 0.8])
def test_posterior_and_evidence_equal_dense_algebra(particle):
    p = prior(
        particle, hypotheses=(Hypothesis("history", 0.5, True), Hypothesis("flat", 0.5, False))
    )
    a, N = p.amplitudes, 5
    c, e = np.array([0, 0, 0, 3, 5]), np.array([0, 1, 2, 0, 4])
    y = 1.2 + 0.3 * np.random.default_rng(1).normal(size=N)
    belief = p.believe(c, e, y, LADDER)
    all_c, all_e = np.r_[c, np.repeat(np.arange(n), 3)], np.r_[e, np.tile(LADDER, n)]
    D = p.D[:, all_c, all_e]
    residual, flat = p.residual(all_c, all_e, all_c, all_e, a)
    noise = np.diag((a.noise * p.by_task[e]) ** 2 + 1e-9)
    centres = p.mean[all_c, all_e] + particle * D if particle else p.mean[None, all_c, all_e]
    ranked = (1 - particle**2) * a.past**2 * D.T @ D / (T - 1) + residual
    components = [(m, ranked, 0.5 / len(centres)) for m in centres] + [
        (p.flat_mean[all_e], flat, 0.5)
    ]
    log_weights = []
    for k, (m, covariance, w) in enumerate(components):
        K = covariance + a.offset**2
        oo, fo = K[:N, :N] + noise, K[N:, :N]
        a0, a_sd = p.around.location, p.around.spread
        b0, b_sd = p.around.log_scale, p.around.log_spread
        log_p = []
        for B in np.exp(b0 + b_sd * SCALES):
            S = B**2 * oo + a_sd**2
            r = y - a0 - B * m[:N]
            log_p.append(
                -0.5 * r @ np.linalg.solve(S, r)
                - 0.5 * np.linalg.slogdet(S)[1]
                - 0.5 * ((np.log(B) - b0) / b_sd) ** 2
            )
        log_weights.append(
            np.log(w) + np.log(np.mean(np.exp(np.array(log_p) - max(log_p)))) + max(log_p)
        )
        share = np.exp(np.array(log_p) - max(log_p))
        scale = np.exp((share / share.sum()) @ (b0 + b_sd * SCALES))
        variance = np.diag(K)[N:] - np.einsum("ij,ji->i", fo, np.linalg.solve(oo, fo.T))
        np.testing.assert_allclose(belief.std[k].ravel(), scale * np.sqrt(variance), rtol=1e-6)
    weight = np.exp(np.array(log_weights) - max(log_weights))
    np.testing.assert_allclose(belief.weight, weight / weight.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("factor", "shift"), [(100.0, 0.0), (1000.0, 0.0), (0.01, 0.0), (1e6, 0.0), (1.0, -10.0)]
)
@pytest.mark.parametrize("N", [1, 2, 7])
def test_a_study_in_another_unit_is_believed_the_same_in_that_unit(factor, shift, N):
    # y -> factor y + shift: means and deviations follow, weights stay. The past's values lie
    # between 0 and 3, so that 10 - y is their complement
    p = prior()
    rng = np.random.default_rng(N)
    c, e = rng.integers(0, n, N), rng.permutation(E)[:N]
    y = past()[0][2][c, e] + 0.05 * rng.normal(size=N)
    at, moved = p.believe(c, e, y, LADDER), p.believe(c, e, factor * y + shift, LADDER)
    np.testing.assert_allclose(moved.weight, at.weight, atol=1e-9)
    np.testing.assert_allclose(moved.lean, at.lean, atol=1e-9)
    np.testing.assert_allclose((moved.mean - shift) / factor, at.mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moved.std / factor, at.std, rtol=1e-6)


def test_a_study_where_no_past_task_lies_is_believed_by_its_shape():
    # a level that no power of ten explains: what is expected follows the values all the same
    Y, X = past()
    p = CurvePrior(comparable(Y, X, tuple("abcdef"), n), Amplitudes(residual=0.3))
    c, e = np.repeat(np.arange(0, n, 2), 3), np.tile([0, 2, 4], n // 2)
    here = p.believe(c, e, Y[4][c, e], LADDER)
    for factor, shift in ((37.0, 5000.0), (0.2, -70.0)):
        there = p.believe(c, e, factor * Y[4][c, e] + shift, LADDER)
        expected = (there.expected - shift) / factor
        np.testing.assert_allclose(expected, here.expected, atol=0.1 * np.ptp(here.expected))
        assert there.trust["flat"] + there.trust["opposite"] < 0.05


def test_before_any_observation_it_expects_the_average_task():
    belief = prior().believe(*[np.empty(0, dtype=int)] * 2, np.empty(0), LADDER)
    assert belief.expected[:, -1].argmax() == n - 1
    assert belief.expected[:, -1].argmin() == 0
    assert sum(belief.lean) == pytest.approx(1, abs=1e-6) or sum(belief.lean) > 0.5
    assert belief.trust["history"] == pytest.approx(0.7)


def test_a_task_like_one_of_the_past_leans_on_it():
    Y, X = past(noise=0.5)
    p = CurvePrior(comparable(Y[1:], X, tuple("bcdef"), n), Amplitudes(residual=0.3))
    c, e = np.repeat(np.arange(0, n, 2), 3), np.tile([0, 2, 4], n // 2)
    belief = p.believe(c, e, 0.3 + 2 * Y[4][c, e], LADDER)
    # Y[4] is the fourth of the past; location and scale differ
    assert int(np.argmax(belief.lean)) == 3
    assert belief.lean[3] > 0.5 * belief.lean.sum()


@pytest.mark.parametrize("tasks", [1, 2])
def test_few_past_tasks_are_not_believed_to_the_letter(tasks):
    # a like task that is a little better everywhere shows one curve: the past's order still counts
    Y, X = past()
    p = CurvePrior(comparable(Y[:tasks], X, tuple("ab"[:tasks]), n))
    like = Y[tasks] + 0.1 * np.random.default_rng(0).normal(size=(n, E))
    belief = p.believe(np.full(3, 5), np.arange(3), like[5, :3], LADDER)
    assert belief.trust["history"] + belief.trust["loose"] > 0.5
    assert belief.expected[:, -1].argmax() > n // 2


def test_a_reversed_task_is_no_longer_trusted():
    Y, X = past()
    p = CurvePrior(comparable(Y, X, tuple("abcdef"), n), Amplitudes(residual=0.3))
    c, e = np.arange(n), np.full(n, 6)
    like = p.believe(c, e, Y[0][c, e], LADDER)
    unlike = p.believe(c, e, Y[0][::-1][c, e], LADDER)
    assert like.trust["flat"] < 0.05
    assert unlike.trust["opposite"] + unlike.trust["flat"] + unlike.trust["loose"] > 0.9
    assert unlike.expected[:, -1].argmax() < n // 2


def test_amplitudes_grow_with_what_the_others_do_not_explain():
    fitted = []
    for noise in (0.02, 0.6):
        Y, X = past(noise=noise)
        p = CurvePrior(comparable(Y, X, tuple("abcdef"), n))
        fitted.append(p.amplitudes.noise * p.by_task.mean())
    assert fitted[0] < fitted[1]
