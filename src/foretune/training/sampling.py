"""Which images make which steps of an epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from foretune.training.seeds import seed_for


def order_of(labels: Tensor, balanced: bool, seed: int, epoch: int) -> Tensor:
    """The images of an epoch in order, (N,) on the CPU: each once, or drawn so that every class is
    as likely (`balanced`), some images then more than once and some not at all.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "order", epoch))
    if not balanced:
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels.cpu())
    likely = 1 / counts[labels.cpu()].double()
    return torch.multinomial(likely, len(labels), replacement=True, generator=generator)


def batches_of(order: Tensor, size: int, even: bool = False) -> list[Tensor]:
    """The order in batches. A last one of a single image joins the one before: BatchNorm has no
    variance of one image. With `even`, as mixing pairs of images asks for, a batch of an odd number
    leaves its last image out.
    """
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    if even:
        batches = [b[: len(b) - len(b) % 2] if len(b) > 1 else b for b in batches]
    return batches
