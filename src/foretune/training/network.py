"""A classifier of which a trial trains the last layers and leaves the others as they are.

| finetune      | layers trained                                                                   |
|---------------|----------------------------------------------------------------------------------|
| `head`        | the classifier alone (linear probing)                                            |
| `last_blocks` | the classifier and about the last third                                          |
| `most`        | all but the stem and the first blocks, which hold edges and colours and half of  |
|               | the cost                                                                         |
| `all`         | everything                                                                       |
| 0.4           | the last 40 % of the layers, the classifier among them; 0 is `head`, 1 is `all`  |
| `lora`        | the classifier, and updates of low rank of everything (`foretune.training.lora`) |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from foretune.errors import BadInput
from foretune.training.knobs import KNOBS, LORA

SHARES = {"last_blocks": 1 / 3, "most": 3 / 4, "all": 1.0, "head": 0.0, LORA: 1.0}


class Network(ABC, nn.Module):
    """A classifier in layers, counted from the stem; those before `first` are frozen.

    Input (B, 3, H, W) float, normalised by `mean` and `std` of pixel values in [0, 1]; output
    logits (B, num_classes). Frozen layers have no gradient, and their BatchNorm stays in eval mode
    whatever `train()` says. Where the network is `divided`, `forward` may stop and start at the
    boundary, so that what is frozen is computed once.
    """

    def __init__(
        self, name: str, mean: tuple[float, float, float], std: tuple[float, float, float]
    ):
        super().__init__()
        self.name, self.mean, self.std = name, mean, std
        self.first = 0

    @abstractmethod
    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the layers [start, stop) on `x`; other bounds than 0, `first` and None only where
        the network can be divided there.
        """

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many layers there are; the classifier comes after the last one or is in it."""

    @property
    @abstractmethod
    def divided(self) -> bool:
        """Whether `forward` can stop, and start, at `first`."""

    @abstractmethod
    def layer_of(self, parameter: str) -> int:
        """The layer that a parameter, by its name, belongs to."""

    @property
    @abstractmethod
    def classifier(self) -> tuple[str, ...]:
        """Names of the modules that turn features into logits."""

    def in_classifier(self, name: str) -> bool:
        """Whether a parameter or module, by its name, belongs to the classifier."""
        return any(name == one or name.startswith(f"{one}.") for one in self.classifier)

    def boundary(self, finetune: str | float) -> int:
        """The first layer that `finetune` trains; raises `BadInput` for another word."""
        if isinstance(finetune, str) and finetune not in SHARES:
            raise BadInput(f"finetune must be {KNOBS['finetune'].right}, but got {finetune!r}")
        share = SHARES[finetune] if isinstance(finetune, str) else finetune
        return round((1 - share) * self.depth)

    def freeze(self, first: int) -> Network:
        """Freeze the layers before `first`, train the others; returns the network itself."""
        self.first = first
        for name, parameter in self.named_parameters():
            trained = self.layer_of(name) >= first or self.in_classifier(name)
            parameter.requires_grad_(trained)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Put what is trained into `mode`; what is frozen stays in eval mode."""
        super().train(mode)
        for module in frozen_modules(self):
            module.eval()
        return self

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that a trial trains, in a fixed order."""
        return [p for p in self.parameters() if p.requires_grad]

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training changes: its parameters, and buffers of what is not frozen."""
        frozen = {id(inner) for module in frozen_modules(self) for inner in module.modules()}
        kept = {name for name, p in self.named_parameters() if p.requires_grad}
        for name, module in self.named_modules():
            if id(module) not in frozen:
                kept |= {f"{name}.{key}" if name else key for key in module._buffers}
        return {key: value for key, value in self.state_dict().items() if key in kept}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The layer of each parameter, as timm's `param_groups_layer_decay` asks for it."""
        return self.layer_of

    def set_dropout(self, share: float) -> None:
        """Drop this share of the features before the classifier: by the dropout that is there, or
        by one that is put before it.
        """
        found = [
            module
            for name, module in self.named_modules()
            if isinstance(module, nn.Dropout) and self.in_classifier(name)
        ]
        for module in found:
            module.p = share
        if not found:
            for name in self.classifier:
                self.get_submodule(name).register_forward_pre_hook(_Drop(share))


class _Drop:
    """Dropout of a module's input. A class, since a closure cannot be copied with the network."""

    def __init__(self, share: float):
        self.share = share

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return (F.dropout(inputs[0], self.share, module.training), *inputs[1:])


def frozen_modules(module: nn.Module) -> list[nn.Module]:
    """The outermost modules of which no parameter is trained."""
    found = []
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            found.append(child)
        else:
            found += frozen_modules(child)
    return found
