"""Any classification network of timm or torchvision, in layers as its library groups it.

timm says which layer a parameter belongs to (`group_matcher`). torchvision does not: there
containers are taken apart into their blocks, in the order of registration, which is the order of
computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foretune.errors import BadInput
from foretune.training.architectures import Architecture, architecture
from foretune.training.division import Halves, divide
from foretune.training.network import Network
from foretune.training.weights import imagenet_file, read_tensors

LARGEST = 0.5  # share of the parameters that one layer of torchvision's may hold
_WITHOUT_AUXILIARY = ("googlenet", "inception_v3")  # their second classifiers are left out


class LibraryNetwork(Network):
    """A network of a library, whole as `model`; `forward` can be divided where one tensor alone
    goes from the frozen layers to the others (`foretune.training.division`).
    """

    def __init__(self, name: str, model: nn.Module, image_size: int):
        chosen = architecture(name)
        super().__init__(name, chosen.mean, chosen.std)
        self.model, self.image_size = model, image_size
        self._classifier = tuple(f"model.{one}" for one in classifier_of(model, chosen))
        layers = layers_of(model, chosen)
        self._layer = {f"model.{key}": layer for key, layer in layers.items()}
        self._halves: Halves | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_halves": None}  # a copy divides itself

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the layers [start, stop) on `x`."""
        if start == 0 and stop is None:
            out: Tensor = self.model(x)
            return out
        if self._halves is None:
            self._halves = divide(self)
        if self._halves is None or (start, stop) not in ((0, self.first), (self.first, None)):
            raise ValueError(f"{self.name} cannot be divided at {start}, {stop}")
        return self._halves(x, self.training, trunk=start == 0)

    @property
    def depth(self) -> int:
        return max(self._layer.values()) + 1

    @property
    def divided(self) -> bool:
        if self._halves is None and self.first > 0:
            self._halves = divide(self)
        return self._halves is not None

    def layer_of(self, parameter: str) -> int:
        stem, changed, _ = parameter.partition(".parametrizations.")
        if changed:  # by LoRA: original and updates stand below the weight's module
            stem += ".weight"
        return self._layer[stem]

    @property
    def classifier(self) -> tuple[str, ...]:
        return self._classifier

    def freeze(self, first: int) -> Network:
        self._halves = None
        return super().freeze(first)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the network wants no weight decay of (timm)."""
        asked: Callable[[], set[str]] = getattr(self.model, "no_weight_decay", set)
        return {f"model.{name}" for name in asked()}

    def set_dropout(self, share: float) -> None:
        """timm's `drop_rate` is set as the network is created; torchvision's dropouts stand beside
        the classifier.
        """
        if architecture(self.name).library == "timm":
            return
        parents = {name.rpartition(".")[0] for name in self.classifier}
        found = [
            module
            for name, module in self.named_modules()
            if isinstance(module, nn.Dropout) and name.rpartition(".")[0] in parents
        ]
        for module in found:
            module.p = share
        if not found:
            super().set_dropout(share)


def classifier_of(model: nn.Module, chosen: Architecture) -> tuple[str, ...]:
    """Names of the modules that turn features into logits: what timm calls the classifier, else
    the last linear layer or convolution.
    """
    modules = dict(model.named_modules())
    said = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    names = (said,) if isinstance(said, str) else tuple(said)
    if names and all(name in modules and list(modules[name].parameters()) for name in names):
        return names
    last = [name for name, one in modules.items() if isinstance(one, (nn.Linear, nn.Conv2d))]
    if not last:
        raise BadInput(f"network {chosen.model!r} of {chosen.library} has no classifier to replace")
    return (last[-1],)


def layers_of(model: nn.Module, chosen: Architecture) -> dict[str, int]:
    """The layer of each parameter, counted from the stem."""
    if chosen.library == "timm" and hasattr(model, "group_matcher"):
        from timm.models import group_parameters

        matcher: Any = model.group_matcher
        found: dict[str, int] = group_parameters(model, matcher(coarse=False), reverse=True)
        return found
    total = sum(p.numel() for p in model.parameters())
    out: dict[str, int] = {}
    for layer, (prefix, module) in enumerate(_blocks("", model, LARGEST * total)):
        for key, _ in module.named_parameters():
            out.setdefault(f"{prefix}.{key}", layer)
    # what a container holds itself, such as a class token, goes in with the first block
    return {key: out.get(key, 0) for key, _ in model.named_parameters()}


def _blocks(prefix: str, module: nn.Module, largest: float) -> Iterator[tuple[str, nn.Module]]:
    """Modules with parameters in order. Plain containers are taken apart, and what holds more than
    `largest` parameters; a block that is built as a container (a subclass of one) is a block.
    """
    for name, child in module.named_children():
        place = f"{prefix}.{name}" if prefix else name
        count = sum(p.numel() for p in child.parameters())
        if count == 0:
            continue
        plain = type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)
        if plain or (count > largest and any(True for _ in child.children())):
            yield from _blocks(place, child, largest)
        else:
            yield place, child


def create(
    name: str, num_classes: int, image_size: int, dropout: float | None = None, drop_path: float = 0
) -> nn.Module:
    """The library's network with its random weights, for images of that size.

    Raises `BadInput` for a knob or a size that the network does not take.
    """
    chosen = architecture(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    make = _of_timm if chosen.library == "timm" else _of_torchvision
    try:
        return make(chosen.model, image_size, dropout, drop_path, options)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        asked = f" with drop_path={drop_path}" if drop_path else ""
        raise BadInput(
            f"network {name!r} cannot be built at {image_size} px{asked}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error


def _of_timm(
    model: str, size: int, dropout: float | None, drop_path: float, options: dict[str, Any]
) -> nn.Module:
    import timm

    if dropout is not None:
        options["drop_rate"] = dropout
    if drop_path:
        options["drop_path_rate"] = drop_path
    about = timm.get_pretrained_cfg(model, allow_unregistered=True)
    if about is not None and about.fixed_input_size and about.input_size[-1] != size:
        state = torch.random.get_rng_state()
        try:
            made: nn.Module = timm.create_model(model, img_size=size, **options)
            return made
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            torch.random.set_rng_state(state)
    return timm.create_model(model, **options)


def _of_torchvision(
    model: str, size: int, dropout: float | None, drop_path: float, options: dict[str, Any]
) -> nn.Module:
    from torchvision import models

    if drop_path:
        options["stochastic_depth_prob"] = drop_path
    if model.startswith("vit_"):
        options["image_size"] = size
    if model == "maxvit_t":
        options["input_size"] = (size, size)
    if model in _WITHOUT_AUXILIARY:
        options |= {"aux_logits": False, "init_weights": False}
    made: nn.Module = models.get_model(model, weights=None, **options)
    return made


@lru_cache(maxsize=2)
def trunk_state(name: str, weights: str | None, size: int, device: str) -> dict[str, Tensor]:
    """The trained tensors of all but the classifier, by their names in the network, on `device`.

    Raises `BadInput` where they cannot be had or do not fit.
    """
    chosen = architecture(name)
    path, origin = (Path(weights), weights) if weights is not None else imagenet_file(name)
    state = read_tensors(path, str(path))  # before a library reads it: nothing but tensors
    if weights is None and chosen.library == "timm":
        import timm

        # timm knows how its files became its networks, and fits positions to another size
        options: dict[str, Any] = {"pretrained_cfg_overlay": {"file": str(path)}}
        about: Any = timm.get_pretrained_cfg(chosen.model)
        if about.fixed_input_size and about.input_size[-1] != size:
            options["img_size"] = size
        with torch.random.fork_rng(devices=[]):
            model: nn.Module = timm.create_model(chosen.model, pretrained=True, **options)
        found = dict(model.state_dict())
    else:
        with torch.random.fork_rng(devices=[]):
            model = create(name, 2, size)
        found = _matched(model, state, origin, name, size)
    names = classifier_of(model, chosen)
    return {
        key: value.to(device, memory_format=torch.channels_last)
        if value.ndim == 4
        else value.to(device)
        for key, value in found.items()
        if not any(key.startswith(f"{one}.") for one in names)
    }


def _matched(
    model: nn.Module, state: dict[str, Tensor], origin: str, name: str, size: int
) -> dict[str, Tensor]:
    """`state` by the names of `model`, whose classifier may differ. Raises `BadInput` where a
    tensor is missing or of another shape.
    """
    # as wrappers and our own files name them
    short = {key.removeprefix("module.").removeprefix("model."): v for key, v in state.items()}
    if name.removeprefix("torchvision:").startswith("vit_") and "conv_proj.weight" in short:
        from torchvision.models.vision_transformer import interpolate_embeddings

        short = dict(interpolate_embeddings(size, short["conv_proj.weight"].shape[-1], short))
    kept = classifier_of(model, architecture(name))
    for key, value in model.state_dict().items():
        if any(key.startswith(f"{one}.") for one in kept) or key.endswith("num_batches_tracked"):
            continue
        if key not in short:
            raise BadInput(f"{origin} does not fit {name}: it lacks {key}")
        if short[key].shape != value.shape:
            raise BadInput(
                f"{origin} does not fit {name} at {size} px: {key} has the shape "
                f"{tuple(short[key].shape)}, not {tuple(value.shape)}"
            )
    return {key: short[key] for key in model.state_dict() if key in short}


def build_library(
    name: str,
    num_classes: int,
    pretrained: bool,
    *,
    finetune: str | float,
    weights: Path | str | None,
    seed: int,
    device: torch.device | str,
    image_size: int,
    dropout: float | None,
    drop_path: float,
) -> LibraryNetwork:
    """The library's network with a new head: see `foretune.training.networks.build`.

    Frozen pretrained tensors are shared between the networks of one process.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create(name, num_classes, image_size, dropout, drop_path)
    model = model.to(device).to(memory_format=torch.channels_last)
    network = LibraryNetwork(name, model, image_size)
    if dropout is not None:
        network.set_dropout(dropout)
    network.freeze(network.boundary(finetune))
    if pretrained:
        file = None if weights is None else str(weights)
        state = trunk_state(name, file, image_size, str(device))
        model.load_state_dict(state, strict=False)
        for key, parameter in network.named_parameters():
            if not parameter.requires_grad:
                parameter.data = state[key.removeprefix("model.")]
    return network
