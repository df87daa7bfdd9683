"""Quick convolutions give what PyTorch's give."""

import pytest
import torch
from torch import nn

from foretune.training.convolutions import Depthwise, Pointwise, quicken


def compare(conv: nn.Conv2d, side: int, kind: type[nn.Conv2d]) -> None:
    generator = torch.Generator().manual_seed(0)
    quick = quicken(nn.Sequential(conv))[0]
    assert type(quick) is kind and quick.weight is conv.weight
    x = (
        torch.randn(4, conv.in_channels, side, side, generator=generator)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    plain, own = conv(x), quick(x)
    grad = torch.randn(plain.shape, generator=generator)
    torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(own, (x, quick.weight), grad),
        torch.autograd.grad(plain, (x, conv.weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise(side: int, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    compare(nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False), side, Depthwise)


@pytest.mark.parametrize("side", [1, 3, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_pointwise(side: int, bias: bool) -> None:
    torch.manual_seed(0)
    compare(nn.Conv2d(6, 10, 1, bias=bias), side, Pointwise)


def test_others_are_left_alone() -> None:
    others = nn.Sequential(
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 8, 1, stride=2),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(4, 4, 3, groups=4, dilation=2),
    )
    before = list(others)
    assert list(quicken(others)) == before


def test_depthwise_takes_its_own_gradient_on_small_maps_only() -> None:
    conv = quicken(nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False)))[0]
    assert "_Depthwise" in type(conv(torch.randn(1, 6, 2, 2)).grad_fn).__name__
    assert "_Depthwise" not in type(conv(torch.randn(1, 6, 8, 8)).grad_fn).__name__
