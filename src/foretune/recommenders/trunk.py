"""The convolutional trunk of task representations: frozen stages and a tail that is fine-tuned.

The frozen stages' output is computed once per image.

`mobilenet_v2` is cut before its last inverted residual block (`block6`, 160 to 320 channels, 0.47
of its 2.2 million trunk parameters): of an image of 48 px, as trials see it, that leaves 160 x 2 x
2 numbers. `tiny` is a random convolution and a trained one, for tests and for worlds made of
colour.

Shapes: N images, C channels, h x w pixels at the cut; the tail's output is averaged over pixels to
(N, width).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from foretune.errors import BadInput
from foretune.tasks.task import Task
from foretune.training.architectures import IMAGENET_MEAN, IMAGENET_STD
from foretune.training.augmentation import normalise, resize, to_float
from foretune.training.chains import build_chain

# images that go through the frozen stages at once: their activations stay in the processor's cache
CHUNK = 64
CUT = 7  # stages of MobileNetV2 before `block6`


@dataclass(frozen=True, eq=False)
class Trunk:
    """`frozen` and a fresh copy of `tail`; images are resized to `size` and normalised.

    Both parts stay in eval mode: batch statistics are ImageNet's.
    """

    frozen: Callable[[Tensor], Tensor]
    tail: nn.Module
    top: Callable[[Tensor], Tensor]  # from the tail's output to the penultimate layer, (N, p)
    width: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @torch.no_grad()
    def activations(self, images: np.ndarray) -> Tensor:
        """Frozen stages' output for uint8 images (N, H, W, 3): float16 (N, C, h, w).

        Channels last.
        """
        pixels = resize(
            torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), self.size
        )
        parts = []
        for chunk in pixels.split(CHUNK):
            x = normalise(to_float(chunk), self.mean, self.std).contiguous(
                memory_format=torch.channels_last
            )
            parts.append(self.frozen(x).half())
        return torch.cat(parts)

    @torch.no_grad()
    def penultimate(self, activations: Tensor) -> Tensor:
        """The whole frozen network's last features (N, p), from activations at the cut."""
        return torch.cat([self.top(self.tail(chunk.float())) for chunk in activations.split(CHUNK)])

    def fresh_tail(self) -> nn.Module:
        """A copy of the tail that may be trained."""
        return copy.deepcopy(self.tail).requires_grad_(True).eval()


@lru_cache(maxsize=4)
def trunk(name: str = "mobilenet_v2", size: int = 48) -> Trunk:
    """The trunk of this name, read once a process.

    Raises `BadInput` for an unknown one or where its weights cannot be had.
    """
    if name == "tiny":
        generator = torch.Generator().manual_seed(0)
        first, second = nn.Conv2d(3, 24, 5, 2, 2), nn.Conv2d(24, 32, 3, 2, 1)
        for conv in (first, second):
            nn.init.kaiming_normal_(conv.weight, generator=generator)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        frozen = nn.Sequential(first, nn.ReLU(), nn.AvgPool2d(2)).eval().requires_grad_(False)
        tail = nn.Sequential(second, nn.ReLU()).eval().requires_grad_(False)
        return Trunk(
            frozen, tail, lambda x: x.mean(dim=(2, 3)), 32, size, IMAGENET_MEAN, IMAGENET_STD
        )
    if name != "mobilenet_v2":
        raise BadInput(f"trunk {name!r} must be mobilenet_v2 or tiny")
    network = build_chain(name, 2, True, finetune="head", weights=None, seed=0, device="cpu").eval()

    def stages(x: Tensor) -> Tensor:
        return network(x, stop=CUT)

    def top(x: Tensor) -> Tensor:
        return network(x, start=CUT + 1, stop=CUT + 2)

    return Trunk(
        stages, network.stages[network.names[CUT]], top, 320, size, network.mean, network.std
    )


def image_rows(task: Task, limit: int, generator: np.random.Generator | None = None) -> np.ndarray:
    """Indices of at most `limit` images of the train part, ascending.

    Without a generator the same ones for everybody.
    """
    rows = np.flatnonzero(task.split == 0)
    if len(rows) == 0:
        rows = np.arange(len(task.labels))
    if len(rows) <= limit:
        return rows
    generator = generator or np.random.default_rng(0)
    return np.sort(generator.choice(rows, size=limit, replace=False))


_KEPT: dict[tuple[str, str, int, int], Tensor] = {}
KEPT_TASKS = 64


def kept_activations(name: str, size: int, task: Task, limit: int) -> tuple[Tensor, np.ndarray]:
    """Activations of the task's first choice of images and their labels, (N, C, h, w) and (N,).

    Computed once per task and process.
    """
    rows = image_rows(task, limit)
    key = (name, task.hash, size, limit)
    if key not in _KEPT:
        while len(_KEPT) >= KEPT_TASKS:
            del _KEPT[next(iter(_KEPT))]
        _KEPT[key] = trunk(name, size).activations(task.images[rows])
    return _KEPT[key], task.labels[rows]
