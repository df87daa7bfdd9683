"""What a network computes for an image: counted once by hooks on PyTorch's meta device, where no
arithmetic is done, and looked up in the table that comes with foretune afterwards.

    workload("convnext_tiny").at(96).gmacs

A count at two sizes gives the power of the side that lies between: 2 for convolutions, more for
attention, whose tokens look at each other. The table, `shipped/costs/networks.csv`, is written by
`python -m foretune.pipeline.network_costs`; a network that is not in it is counted on the spot.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune import shipped
from foretune.errors import BadInput
from foretune.training.architectures import architecture

if TYPE_CHECKING:
    from torch import nn

    from foretune.training.network import Network

TABLE = shipped.FOLDER / "costs" / "networks.csv"
SMALL = (96, 112, 128, 160, 192)  # sides in pixels; the first that the network takes
LARGE = (224, 256, 240, 288, 384, 448)


@dataclass(frozen=True)
class Work:
    """Of one image going forward: 1e9 multiply-adds, and 1e6 elements that modules write."""

    gmacs: float
    melements: float

    def __mul__(self, factor: float) -> Work:
        return Work(self.gmacs * factor, self.melements * factor)

    def __add__(self, other: Work) -> Work:
        return Work(self.gmacs + other.gmacs, self.melements + other.melements)


@dataclass(frozen=True)
class Workload:
    """A row of the table: `mparams` are 1e6 parameters; `gmacs` and `melements` as in `Work`, at
    images of `small` and `large` pixels; `modules` how many modules an image goes through;
    `tail_last` and `tail_most` the shares of the multiply-adds after the boundary of
    `finetune="last_blocks"` and `"most"`; `divided` whether what lies before it can be kept.
    """

    name: str
    mparams: float
    modules: int
    small: int
    gmacs_small: float
    melements_small: float
    large: int
    gmacs: float
    melements: float
    tail_last: float
    tail_most: float
    divided: bool

    def at(self, size: int) -> Work:
        """One image of `size` pixels a side."""
        return Work(
            _between(size, (self.small, self.gmacs_small), (self.large, self.gmacs)),
            _between(size, (self.small, self.melements_small), (self.large, self.melements)),
        )

    def tail(self, finetune: str | float) -> float:
        """The share of the work that lies in the trained layers, from 0 to 1; between the shares
        of layers that were counted it is linear.
        """
        words = {"head": 0.0, "last_blocks": self.tail_last, "most": self.tail_most}
        if isinstance(finetune, str):
            return words.get(finetune, 1.0)
        places = ((0.0, 0.0), (1 / 3, self.tail_last), (3 / 4, self.tail_most), (1.0, 1.0))
        for (low, below), (high, above) in pairwise(places):
            if finetune <= high:
                return below + (above - below) * (finetune - low) / (high - low)
        return 1.0


def _between(size: int, small: tuple[int, float], large: tuple[int, float]) -> float:
    """The power law through two points, or the square of the side where they are one."""
    (s, a), (t, b) = small, large
    power = math.log(b / a) / math.log(t / s) if s != t and a > 0 and b > 0 else 2.0
    return float(b * (size / t) ** power)


def workload(name: str) -> Workload:
    """The workload of a network by any of its names. Raises `BadInput` for one that is not known,
    or that takes no size that was tried.
    """
    chosen = architecture(name)
    model = chosen.model.partition(".")[0] if chosen.library == "timm" else chosen.model
    key = name if chosen.chain else f"{chosen.library}:{model}"
    return table().get(key) or counted(key)


@lru_cache(maxsize=1)
def table(path: Path = TABLE) -> Mapping[str, Workload]:
    """The counted networks by name; empty where the file is gone, and then all are counted anew."""
    if not path.is_file():
        return {}
    kinds = {one.name: {"int": int, "float": float}.get(str(one.type)) for one in fields(Workload)}

    def read(name: str, text: str) -> Any:
        return text == "1" if name == "divided" else (kinds[name] or str)(text)

    with path.open(encoding="utf-8", newline="") as file:
        rows = [{k: read(k, v) for k, v in row.items()} for row in csv.DictReader(file)]
    return {row["name"]: Workload(**row) for row in rows}


class _TooLarge(BadInput):
    """More parameters than are wanted, at any size of images."""


def _mparams(network: Network) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


@lru_cache(maxsize=64)
def counted(name: str, largest: float = math.inf) -> Workload:
    """The workload, counted here. Raises `BadInput` for a network that takes none of the sizes, or
    has more than `largest` million parameters.
    """
    problem: BadInput | None = None
    points: list[tuple[int, Network, dict[str, int], Work]] = []
    for sizes in (LARGE, SMALL):
        for size in sizes:
            try:
                network = _blank(name, size)
                if (millions := _mparams(network)) > largest:
                    raise _TooLarge(f"{name}: {millions:.0f} million parameters")
                points.append((size, network, *_count(network, size)))
                break
            except _TooLarge:
                raise
            except BadInput as error:
                problem = error
    if not points:
        assert problem is not None
        raise problem
    size, network, macs, work = points[0]
    small, small_work = points[-1][0], points[-1][3]
    return Workload(
        name,
        _mparams(network),
        sum(not list(m.children()) for m in network.modules()),
        small,
        small_work.gmacs,
        small_work.melements,
        size,
        work.gmacs,
        work.melements,
        _tail(network, macs, "last_blocks"),
        _tail(network, macs, "most"),
        _divides(network),
    )


def _blank(name: str, size: int) -> Network:
    """The network without memory for its tensors; some need it to be built, and lose it. Raises
    `BadInput` for what cannot be built for images of that size.
    """
    import torch

    from foretune.training.networks import build

    try:
        with torch.device("meta"), _quietly(name, size):
            return build(name, 1000, False, device="meta", image_size=size).eval()
    except BadInput as error:
        if "meta tensor" not in str(error):
            raise
    with _quietly(name, size):
        return build(name, 1000, False, image_size=size).eval().to("meta")


@contextmanager
def _quietly(name: str, size: int) -> Iterator[None]:
    """What a library's network raises at a size that it does not take, as `BadInput`."""
    try:
        yield
    except (RuntimeError, TypeError, AssertionError, ValueError, LookupError, AttributeError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise BadInput(f"network {name!r} cannot be counted at {size} px: {reason}") from e


def _count(network: Network, size: int) -> tuple[dict[str, int], Work]:
    """Multiply-adds of each module by its name, and the work in all."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    elements = 0
    network.requires_grad_(False)  # the counter asks every tensor that needs one for its gradient

    def wrote(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal elements
        elements += output.numel() if isinstance(output, torch.Tensor) else 0

    leaves = [m for m in network.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(wrote) for leaf in leaves]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.device("meta"), _quietly(network.name, size), counter:
        network(torch.empty(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    root = type(network).__name__
    macs = {
        name.removeprefix(root).removeprefix("."): sum(by_operator.values()) // 2
        for name, by_operator in counter.get_flop_counts().items()
        if name.startswith(f"{root}.")
    }
    return macs, Work(counter.get_total_flops() / 2e9, elements / 1e6)


def _tail(network: Network, macs: Mapping[str, int], finetune: str) -> float:
    """The share of the multiply-adds that `finetune` trains."""
    network.freeze(network.boundary(finetune))

    def parts(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
        children = module.named_children()
        return [(f"{prefix}.{key}" if prefix else key, child) for key, child in children]

    def whole(prefix: str, module: nn.Module) -> int:
        if prefix in macs:
            return macs[prefix]
        return sum(whole(*part) for part in parts(prefix, module))  # a container is never called

    def trained(prefix: str, module: nn.Module) -> int:
        sides = {p.requires_grad for p in module.parameters()}
        if sides != {True, False}:
            return whole(prefix, module) if sides == {True} else 0
        inside = parts(prefix, module)
        own = whole(prefix, module) - sum(whole(*part) for part in inside)
        return max(0, own) + sum(trained(*part) for part in inside)

    total = whole("", network)
    return trained("", network) / total if total else 1.0


def _divides(network: Network) -> bool:
    """Whether its forward pass can be written down in two halves (without trying them)."""
    from foretune.training.chains import Chain
    from foretune.training.division import _cut
    from foretune.training.library import LibraryNetwork

    if isinstance(network, Chain):
        return True
    network.freeze(network.boundary("most"))
    return isinstance(network, LibraryNetwork) and _cut(network.model) is not None
