"""Networks as chains of named stages, from the stem to the head.

`stages[-1]` is the classifier, everything before it is the trunk. The eight networks of
`foretune.training.architectures.ARCHITECTURES` are built so, with convolutions that are quick on
few pixels (`foretune.training.convolutions`).

Validation accuracy and CPU seconds (one busy core) of 5 epochs on 400 images, last blocks trained
(random network: all), Adam 1e-3, one seed:

| network, weights             | letters, 26 classes: 32 px | 48 px      | 64 px       |
|------------------------------|----------------------------|------------|-------------|
| mobilenet_v2, ImageNet       | .52, 2.7 s                 | .64, 6.5 s | .68, 9.2 s  |
| efficientnet_lite0, ImageNet | .28, 3.4 s                 | .48, 8.7 s | .45, 11.5 s |
| shufflenet_v2_x1, random     | .05, 4.7 s                 | .07, 7.7 s | .05, 10.9 s |

More, and how it was measured: docs/guide/networks.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foretune.errors import BadInput
from foretune.training.architectures import architecture
from foretune.training.convolutions import quicken
from foretune.training.network import Network
from foretune.training.weights import imagenet_state


class Chain(Network):
    """A chain of named stages; `forward` may start and stop between any two of them."""

    def __init__(self, name: str, stages: Mapping[str, nn.Module]):
        chosen = architecture(name)
        super().__init__(name, chosen.mean, chosen.std)
        self.stages = nn.ModuleDict(stages)
        self._place = {key: place for place, key in enumerate(self.stages)}

    @property
    def names(self) -> list[str]:
        """Names of the stages, stem first."""
        return list(self.stages)

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the stages [start, stop) on `x`."""
        for stage in list(self.stages.values())[start:stop]:
            x = stage(x)
        return x

    @property
    def depth(self) -> int:
        return len(self.stages)

    @property
    def divided(self) -> bool:
        return True

    def layer_of(self, parameter: str) -> int:
        return self._place[parameter.split(".")[1]]

    @property
    def classifier(self) -> tuple[str, ...]:
        return (f"stages.{self.names[-1]}",)

    def boundary(self, finetune: str | float) -> int:
        """Index of the first stage that `finetune` trains; raises `BadInput` for another word."""
        stages, chosen = len(self.stages), architecture(self.name)
        match finetune:
            case "last_blocks":
                return stages - chosen.last_blocks
            case "most":
                return chosen.early
        return min(super().boundary(finetune), stages - 1)


def _timm(name: str, num_classes: int) -> Iterator[tuple[str, nn.Module]]:
    import timm

    model: Any = timm.create_model(name, num_classes=num_classes)
    if name.startswith("efficientnet"):
        yield "stem", nn.Sequential(model.conv_stem, model.bn1)
        yield from ((f"block{i}", block) for i, block in enumerate(model.blocks))
        yield "top", nn.Sequential(model.conv_head, model.bn2, model.global_pool)
        yield "head", model.classifier
    else:
        yield "stem", nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool)
        yield from ((f"block{i}", getattr(model, f"layer{i}")) for i in range(1, 4))
        yield "block4", nn.Sequential(model.layer4, model.global_pool)
        yield "head", model.fc


def _torchvision(name: str, num_classes: int) -> Iterator[tuple[str, nn.Module]]:
    import torchvision

    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if name.startswith("mobilenet"):
        layers = model.features  # stem, 17 inverted residuals in 7 groups, the last 1x1 convolution
        yield "stem", layers[0]
        for i, (start, stop) in enumerate(
            [(1, 2), (2, 4), (4, 7), (7, 11), (11, 14), (14, 17), (17, 18)]
        ):
            yield f"block{i}", layers[start:stop]
        yield "top", nn.Sequential(layers[18], pool)
        yield "head", model.classifier
    elif name.startswith("shufflenet"):
        yield "stem", nn.Sequential(model.conv1, model.maxpool)
        yield from ((f"block{i}", getattr(model, f"stage{i}")) for i in range(2, 5))
        yield "top", nn.Sequential(model.conv5, pool)
        yield "head", model.fc
    else:
        yield "stem", nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        yield from ((f"block{i}", getattr(model, f"layer{i}")) for i in range(1, 4))
        yield "block4", nn.Sequential(model.layer4, pool)
        yield "head", model.fc


def _blank(name: str, num_classes: int, seed: int) -> Chain:
    """The network with the library's random initialisation, drawn from `seed`.

    The global generator is left as it was.
    """
    chosen = architecture(name)
    chain = {"timm": _timm, "torchvision": _torchvision}[chosen.library]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Chain(name, {key: quicken(stage) for key, stage in chain(chosen.model, num_classes)})


def load_by_order(network: Chain, state: Mapping[str, Tensor], origin: str) -> None:
    """Copy `state` into `network`, tensor by tensor in order.

    Stages keep their library's order of tensors, whatever their names became. Files from before
    PyTorch 1.0 lack BatchNorm's counters (`num_batches_tracked`), which take no part in the
    matching. Raises `BadInput` if count or shapes differ.
    """
    targets, values = (
        [v for key, v in tensors.items() if not key.endswith("num_batches_tracked")]
        for tensors in (network.state_dict(), state)
    )
    if [v.shape for v in targets] != [v.shape for v in values]:
        raise BadInput(
            f"{origin} does not fit {network.name}: {len(values)} tensors, {len(targets)} "
            "expected, of other shapes"
        )
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


@lru_cache(maxsize=4)
def _pretrained(name: str, weights: str | None, device: str = "cpu") -> Chain:
    """The ImageNet classifier, read once a process and device.

    All trials share its trunk: never written to, always in eval mode.
    """
    state, origin = imagenet_state(name, weights)
    if weights is not None or architecture(name).package is None:
        state = _in_order(name, state)
    last = list(state.values())[-1:]  # the classifier's bias
    if not last or last[0].ndim != 1:
        raise BadInput(f"{origin} does not fit {name}: it has no classifier at its end")
    network = _blank(name, len(last[0]), seed=0)
    load_by_order(network, state, origin)
    network.freeze(len(network.stages)).eval()
    return network.to(device).to(memory_format=torch.channels_last)


def build_chain(
    name: str,
    num_classes: int,
    pretrained: bool,
    *,
    finetune: str | float,
    weights: Path | str | None,
    seed: int,
    device: torch.device | str,
) -> Chain:
    """The chain of that name with a new head: see `foretune.training.networks.build`.

    Frozen pretrained stages are shared between the networks of one process.
    """
    if not pretrained:
        network = _blank(name, num_classes, seed).to(device).to(memory_format=torch.channels_last)
        return _frozen(network, network.boundary(finetune))
    template = _pretrained(name, None if weights is None else str(weights), str(device))
    first = template.boundary(finetune)
    stages: dict[str, nn.Module] = {}
    for index, (key, stage) in enumerate(template.stages.items()):
        stages[key] = stage if index < first else copy.deepcopy(stage)
    stages["head"] = _new_head(template.stages["head"], num_classes, seed).to(device)
    return _frozen(Chain(name, stages), first)


def _frozen(chain: Chain, first: int) -> Chain:
    chain.freeze(first)
    return chain


def _in_order(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file in the order of the network, where it has its library's names or ours:
    safetensors come sorted by name.
    """
    chosen = architecture(name)
    with torch.device("meta"):
        if chosen.library == "timm":
            import timm

            theirs: nn.Module = timm.create_model(chosen.model)
        else:
            import torchvision

            theirs = torchvision.models.get_model(chosen.model, weights=None)
    for one in (theirs, _blank(name, 2, seed=0)):
        keys = [k for k in one.state_dict() if k in state or not k.endswith("num_batches_tracked")]
        if set(keys) <= set(state):
            return {key: state[key] for key in keys}
    return state


def _new_head(old: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """A classifier of `old`'s form (dropout, if any) for `num_classes`, drawn from `seed`."""
    linear = next(module for module in old.modules() if isinstance(module, nn.Linear))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = nn.Linear(linear.in_features, num_classes)
    if not isinstance(old, nn.Sequential):
        return new
    return nn.Sequential(*(copy.deepcopy(m) for m in old if not isinstance(m, nn.Linear)), new)
