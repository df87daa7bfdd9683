"""The losses of HyperSTAR against closed forms, and its networks' shapes."""

import math

import pytest
import torch
from torch import nn

from foretune.recommenders.hyperstar.network import (
    Discriminator,
    HyperSTARNetwork,
    adversarial_loss,
    performance_loss,
    similarity_loss,
)


def network(residual: bool = True, tail: nn.Module | None = None) -> HyperSTARNetwork:
    torch.manual_seed(0)
    return HyperSTARNetwork(tail, 6, 4, 3, width=5, hidden=7, dropout=0.0, residual=residual)


def test_performance_loss_is_the_mean_squared_error() -> None:
    assert float(
        performance_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
    ) == pytest.approx(2.5)


def test_similarity_loss_compares_cosines_with_r_off_the_diagonal() -> None:
    t = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])  # cosines: 0, 1/sqrt 2, 1/sqrt 2
    r = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert float(similarity_loss(t, r)) == pytest.approx((0.25 + 0.5 + 0.5) / 3)
    assert float(similarity_loss(t[:1], r[:1, :1])) == 0.0


def test_adversarial_loss_of_a_discriminator_that_knows_nothing() -> None:
    zero = torch.zeros(4)
    assert float(adversarial_loss(zero, zero)) == pytest.approx(2 * math.log(0.5))
    assert float(
        adversarial_loss(torch.full((2,), 20.0), torch.full((2,), -20.0))
    ) == pytest.approx(0, abs=1e-6)


def test_the_discriminator_raises_what_the_representation_lowers() -> None:
    torch.manual_seed(0)
    critic, t = Discriminator(3), torch.randn(8, 3, requires_grad=True)
    whole = torch.randn(8, 3)
    before = adversarial_loss(critic(whole), critic(t))
    before.backward()
    with torch.no_grad():
        lowered = t - 0.5 * t.grad  # type: ignore[operator]
        assert adversarial_loss(critic(whole), critic(lowered)) < before
        for p in critic.parameters():
            p.add_(0.1 * p.grad)  # type: ignore[operator]
        assert adversarial_loss(critic(whole), critic(t)) > before


def test_residual_starts_at_nothing_and_the_plain_one_does_not() -> None:
    pooled, encoded = torch.randn(2, 8, 6), torch.randn(3, 4)
    for residual in (True, False):
        net = network(residual)
        scores = net.scores(net.represent(pooled), encoded)
        assert scores.shape == (2, 3)
        assert bool((scores == 0).all()) is residual


def test_a_representation_is_the_mean_over_the_batch_of_images() -> None:
    net = network()
    pooled = torch.randn(1, 8, 6)
    by_image = torch.stack([net.represent(pooled[:, i : i + 1])[0] for i in range(8)])
    assert torch.allclose(net.represent(pooled)[0], by_image.mean(dim=0), atol=1e-6)
    assert torch.allclose(
        net.represent(pooled[:, torch.randperm(8)]), net.represent(pooled), atol=1e-6
    )


def test_pixels_are_averaged_after_the_tail() -> None:
    net = network(tail=nn.Conv2d(2, 6, 1))
    x = torch.randn(4, 2, 3, 3)
    assert torch.allclose(net.pooled(x), net.tail(x).mean(dim=(2, 3)))  # type: ignore[misc]
    assert net.pooled(torch.ones(4, 6).half()).dtype == torch.float32
