"""Task kernels: OptiLand's distance and repair, the learned ones' symmetry and sign."""

import numpy as np
import pytest
import torch

from foretune.gaussian.kernels.task import (
    DISTANCES,
    TASK_KERNELS,
    OptiLand,
    inverse_softplus,
    landscape_distances,
    normalised,
    positive,
    power_of_ten,
    target_distances,
)


def test_distance_ignores_shift_and_scale_and_counts_matched_cells():
    Y = np.random.default_rng(0).normal(size=(3, 4, 5))
    Y[1] = 3 + 2 * Y[0]
    Y[2, :, 3:] = np.nan
    D, R = landscape_distances(Y)
    assert D[0, 1] == pytest.approx(0)
    assert D[0, 0] == 0 and (np.diag(D) == 0).all()
    a, b = normalised(Y[0, :, :3].ravel()), normalised(Y[2, :, :3].ravel())
    assert D[0, 2] == pytest.approx(np.mean((a - b) ** 2))
    assert R[0, 2] == pytest.approx(12 / 20) and R[0, 1] == 1


def test_the_published_distance_ignores_shift_alone():
    Y = np.random.default_rng(0).normal(size=(3, 4, 5))
    Y[1] = 3 + Y[0]
    Y[2] = 2 * Y[0]
    D, _ = landscape_distances(Y, "centred")
    assert D[0, 1] == pytest.approx(0)
    assert D[0, 2] == pytest.approx(Y[0].var())  # the mean of (2 y - y)^2, centred


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_target_is_compared_as_any_other_task(distance):
    Y = np.random.default_rng(3).normal(size=(4, 6, 5))
    Y[3, :, 2:] = np.nan
    D, R = landscape_distances(Y, distance)
    row, matched = target_distances(Y[:3], Y[3], distance)
    assert row == pytest.approx(D[3, :3]) and matched / 30 == pytest.approx(R[3, 0])
    assert (target_distances(Y[:3], np.full((6, 5), np.nan), distance)[0] == 0.5).all()


def test_accuracies_are_left_as_they_are_and_other_units_brought_there():
    assert power_of_ten(np.array([0.3, 0.97])) == 1 == power_of_ten(np.array([0.2, -1.0]))
    assert power_of_ten(np.array([30.0, 97.0])) == 100
    assert power_of_ten(np.array([2e-5])) == 1e-4
    assert power_of_ten(np.zeros(2)) == 1


def test_at_most_one_matched_cell_gives_one_half():
    Y = np.full((2, 2, 2), np.nan)
    Y[0] = 1.0
    assert landscape_distances(Y)[0][0, 1] == 0.5
    Y[1, 0, 0] = 2.0
    assert landscape_distances(Y)[0][0, 1] == 0.5


def test_constant_values_normalise_to_zero():
    assert (normalised(np.full(4, 0.7)) == 0).all()


def test_gamma_runs_from_u_without_matches_to_one_with_all():
    kernel = OptiLand(2)
    D = torch.full((2, 2), 0.3)
    s, xi, U = positive(kernel.scale), positive(kernel.length), 1 + positive(kernel.bound)
    for share, gamma in ((0.0, U), (1.0, torch.tensor(1.0)), (0.5, U / (1 + (U - 1) * 0.5))):
        value = kernel.plain(D, torch.full((2, 2), share))[0, 1]
        assert float(value) == pytest.approx(
            float(s * torch.exp(-0.3 / (xi * gamma) ** 2)), rel=1e-5
        )
    assert float(U) == pytest.approx(1.5, abs=1e-4)  # the published start


def test_the_plain_kernel_is_indefinite_on_partial_studies_and_the_repaired_one_is_not():
    rng = np.random.default_rng(1)
    curves = rng.normal(size=(24, 30, 1)) + np.log1p(np.arange(10)) * rng.uniform(
        0.1, 1, size=(24, 1, 1)
    )
    kernel, worst = OptiLand(24), 0.0
    with torch.no_grad():
        kernel.length.fill_(-2.0)
    for share in (0.3, 0.05, 0.01):
        for _ in range(4):
            Y = np.where(rng.random(curves.shape) < share, curves, np.nan)
            D, R = (torch.as_tensor(a, dtype=torch.float32) for a in landscape_distances(Y))
            with torch.no_grad():
                worst = min(
                    worst, float(np.linalg.eigvalsh(kernel.plain(D, R).numpy().astype(float))[0])
                )
                K = kernel(D, R).numpy().astype(float)
            assert np.linalg.eigvalsh(K)[0] > -1e-5
            np.testing.assert_allclose(np.diag(K), float(positive(kernel.scale)), rtol=1e-4)
    assert worst < -0.01


@pytest.mark.parametrize("name", TASK_KERNELS)
def test_gram_is_symmetric_and_positive(name):
    Y = np.random.default_rng(2).normal(size=(5, 3, 4))
    D, R = (torch.as_tensor(a, dtype=torch.float32) for a in landscape_distances(Y))
    K = TASK_KERNELS[name](5)(D, R)
    assert K.requires_grad
    values = K.detach().numpy()
    np.testing.assert_allclose(values, values.T, atol=1e-6)
    assert np.linalg.eigvalsh(values.astype(float))[0] > -1e-5


def test_a_cold_start_is_as_like_the_past_as_the_past_is_like_itself():
    kernel = OptiLand(4)
    D = torch.tensor([[0.0, 0.02, 0.05], [0.02, 0.0, 0.01], [0.05, 0.01, 0.0]])
    with torch.no_grad():
        kernel.length.fill_(inverse_softplus(0.2))
        kernel.start_cold(D)
        whole, R = torch.full((4, 4), 0.5), torch.zeros(4, 4)
        whole[:3, :3], R[:3, :3] = D, 1.0
        whole[3, 3] = 0.0
        K = kernel.plain(whole, R)
    past = [float(K[i, j]) for i in range(3) for j in range(i)]
    assert K[3, :3].tolist() == pytest.approx([sum(past) / 3] * 3, rel=1e-3)
    bound = float(kernel.bound)
    kernel.start_cold(torch.zeros(1, 1))  # a single past task says nothing
    assert float(kernel.bound) == bound
