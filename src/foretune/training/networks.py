"""The networks that trials train: any name of `foretune.training.architectures`, built and frozen.

network = build("convnext_tiny", num_classes=7, finetune="last_blocks", image_size=96)
"""

from __future__ import annotations

from pathlib import Path

import torch

from foretune.errors import BadInput
from foretune.training.architectures import architecture
from foretune.training.chains import build_chain
from foretune.training.knobs import LORA
from foretune.training.library import build_library, create, trunk_state
from foretune.training.lora import adapt
from foretune.training.network import Network
from foretune.training.recipe import Recipe
from foretune.training.settings import Settings
from foretune.training.weights import imagenet_state


def build(
    name: str,
    num_classes: int,
    pretrained: bool = True,
    *,
    finetune: str | float = "all",
    lora_rank: int = 8,
    weights: Path | str | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    image_size: int = 224,
    dropout: float | None = None,
    drop_path: float = 0.0,
) -> Network:
    """A network with a new head for `num_classes`, frozen before `finetune`'s boundary.

    `pretrained` fills the trunk with the tensors of the file `weights`, or ImageNet's (see
    `foretune.training.weights`), otherwise it is drawn from `seed`, as the head always is. Frozen
    pretrained layers are shared between the networks of one process: do not move them to another
    device, build there. Without pretrained weights only `finetune="all"` makes sense: a random
    trunk in eval mode passes next to nothing on. `dropout` None leaves the network's own.

    Raises `BadInput` for a network or `finetune` that is not known, fewer than 2 classes, weights
    that cannot be had or do not fit, and a size or `drop_path` that the network does not take.
    """
    if num_classes < 2:
        raise BadInput(f"a classifier needs 2 classes or more, but got {num_classes}")
    chosen = architecture(name)
    network: Network
    if chosen.chain:
        if drop_path:
            raise BadInput(
                f"network {name!r} has no stochastic depth: leave drop_path out, or take "
                f"{chosen.library}:{chosen.model}"
            )
        network = build_chain(
            name, num_classes, pretrained, finetune=finetune, weights=weights, seed=seed,
            device=device,
        )  # fmt: skip
        if dropout is not None:
            network.set_dropout(dropout)
    else:
        network = build_library(
            name, num_classes, pretrained, finetune=finetune, weights=weights, seed=seed,
            device=device, image_size=image_size, dropout=dropout, drop_path=drop_path,
        )  # fmt: skip
    if finetune == LORA:
        adapt(network, lora_rank, seed)
    return network


def of_recipe(
    recipe: Recipe,
    num_classes: int,
    settings: Settings,
    seed: int,
    device: torch.device | str = "cpu",
) -> Network:
    """The network that a recipe asks for."""
    return build(
        recipe.network, num_classes, settings.pretrained, finetune=recipe.finetune,
        lora_rank=recipe.lora_rank, weights=settings.weights, seed=seed, device=device,
        image_size=settings.image_size, dropout=recipe.dropout, drop_path=recipe.drop_path,
    )  # fmt: skip


def check_buildable(
    name: str, pretrained: bool, weights: str | None, image_size: int, drop_path: float
) -> None:
    """Raise `BadInput` for a network that is not known, that does not take images of that size, or
    whose weights cannot be had.
    """
    chosen = architecture(name)
    if chosen.chain:
        if drop_path:
            build(name, 2, False, drop_path=drop_path)
        if pretrained and weights is None:
            imagenet_state(name)
        elif pretrained:
            build(name, 2, weights=weights)
        return
    try:
        _look_through(name, image_size, drop_path, "meta")
    except BadInput:  # some networks cannot be built without memory, and are
        _look_through(name, image_size, drop_path, "cpu")
    if pretrained:
        trunk_state(name, weights, image_size, "cpu")


def _look_through(name: str, image_size: int, drop_path: float, device: str) -> None:
    """Build the network and let two images through. Raises `BadInput` where it takes none of that
    size.
    """
    with torch.device(device), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = create(name, 2, image_size, drop_path=drop_path).eval()
        try:
            model(torch.empty(2, 3, image_size, image_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise BadInput(
                f"network {name!r} does not take images of {image_size} px (--image-size): "
                f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
            ) from error
