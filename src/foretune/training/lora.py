"""LoRA (Hu et al., 2021): a frozen weight W and a trained update of low rank, W + B A (eq. 3).

Linear layers and 1 x 1 convolutions of all but the classifier get an update; everything else but
the classifier is frozen. B starts at zero, so that training starts from the network as it was.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from foretune.errors import BadInput
from foretune.training.network import Network


class LowRank(nn.Module):
    """W (out, in, ...) to W + B A: A (rank, in), B (out, rank)."""

    def __init__(self, out: int, inside: int, rank: int, generator: torch.Generator):
        super().__init__()
        rank = min(rank, out, inside)
        bound = 1 / math.sqrt(inside)  # as nn.Linear draws
        draws = torch.rand(rank, inside, generator=generator)
        self.down = nn.Parameter((2 * draws - 1) * bound)
        self.up = nn.Parameter(torch.zeros(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight, of the shape of `weight`."""
        return weight + (self.up @ self.down).view_as(weight)


def adapt(network: Network, rank: int, seed: int) -> None:
    """Freeze all of `network` but its classifier, and give its weights updates of `rank`.

    Raises `BadInput` where it has no weight that takes one.
    """
    generator = torch.Generator().manual_seed(seed)
    network.requires_grad_(False)
    targets = []
    for name, module in network.named_modules():
        if network.in_classifier(name):
            module.requires_grad_(True)
        elif isinstance(module, nn.Linear) or (
            isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
        ):
            targets.append(module)
    if not targets:
        raise BadInput(
            f"network {network.name!r} has neither linear layers nor 1 x 1 convolutions before its "
            "classifier for LoRA to update: finetune head, last_blocks, most or all would be right"
        )
    for module in targets:
        weight: Tensor = module.weight
        update = LowRank(weight.shape[0], weight[0].numel(), rank, generator)
        parametrize.register_parametrization(module, "weight", update.to(weight.device))
    network.train(network.training)


def merge(network: nn.Module) -> None:
    """Add the updates to the weights for good, so that nothing of LoRA is left."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
