"""Three convolutional networks that train in well under a second, for experiments that need thousands of trainings on a CPU.

| name        | layers (3 x 3 unless said; batch normalisation and ReLU after each)                     | weights |
|-------------|------------------------------------------------------------------------------------------|---------|
| `plain`     | 8, 16 (stride 2), 16, 32 (stride 2), 32, as VGG                                            | 18,000  |
| `residual`  | 8, then basic blocks of 8, 16 (stride 2) and 32 (stride 2) with 1 x 1 shortcuts, as ResNet  | 20,000  |
| `separable` | 8, then depthwise and 1 x 1 to 16, 32 (stride 2), 32, 64 (stride 2), as MobileNet           | 5,500   |

All see images of 16 px and end in a mean over pixels and a linear classifier. Weights start from PyTorch's own initialisation.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foretune import optimizers
from foretune.errors import BadInput
from foretune.images import Task
from foretune.searchers.autohyper import RESPONSE
from foretune.spectral import network_rank

SIZE = 16  # pixels of the edge
NETWORKS = ("plain", "residual", "separable")


def conv(before: int, after: int, stride: int = 1, side: int = 3, groups: int = 1) -> list[nn.Module]:
    """Convolution, normalisation, ReLU."""
    layer = nn.Conv2d(before, after, side, stride, side // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(after), nn.ReLU()]


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2015)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(*conv(before, after, stride), *conv(after, after)[:2])
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv(before, after, stride, 1)[:2])

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        return F.relu(self.body(x) + self.shortcut(x))


def network(name: str, classes: int, seed: int) -> nn.Sequential:
    """The network of this name with weights drawn from `seed`. Raises `BadInput` for another name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match name:
            case "plain":
                body = [*conv(3, 8), *conv(8, 16, 2), *conv(16, 16), *conv(16, 32, 2), *conv(32, 32)]
            case "residual":
                body = [*conv(3, 8), Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2)]
            case "separable":
                body = conv(3, 8)
                for before, after, stride in ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)):
                    body += [*conv(before, before, stride, groups=before), *conv(before, after, side=1)]
            case _:
                raise BadInput(f"small network {name!r} is not known; one of {', '.join(NETWORKS)} would be right")
        width = 64 if name == "separable" else 32
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


@dataclass(frozen=True, eq=False)
class Data:
    """A task at 16 px: images float32 (N, 3, 16, 16), labels int64 (N,), by part; normalised by the train part."""

    name: str
    classes: int
    images: dict[str, Tensor]
    labels: dict[str, Tensor]

    @classmethod
    def of(cls, task: Task, train_limit: int = 320, other_limit: int = 500) -> Data:
        """The first images of each part in a fixed shuffled order, so that every class is drawn by its share."""
        images, labels = {}, {}
        for part, limit in (("train", train_limit), ("valid", other_limit), ("test", other_limit)):
            pixels, classes = task.part(part)
            order = np.random.default_rng(0).permutation(len(classes))[:limit]
            x = torch.from_numpy(pixels[order]).permute(0, 3, 1, 2).float() / 255
            images[part] = F.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
            labels[part] = torch.from_numpy(classes[order])
        mean, std = images["train"].mean((0, 2, 3), keepdim=True), images["train"].std((0, 2, 3), keepdim=True)
        normal = {part: ((x - mean) / std.clamp_min(1e-3)).contiguous() for part, x in images.items()}
        return cls(task.name, task.num_classes, normal, labels)


def draw(*what: Any) -> int:
    """A 63-bit seed from a description."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "big") >> 1


class SmallTrial:
    """One network, optimizer and rate (held constant) on one task; `train_epoch` gives rows as `foretune.training` does, with Z_t."""

    def __init__(
        self, data: Data, name: str, optimizer: str, rate: float, *, seed: int = 0, batch: int = 16, z: bool = True
    ):
        self.data, self.batch, self.seed, self.z = data, batch, seed, z
        self.network = network(name, data.classes, draw(seed, "network"))
        self.optimizer = optimizers.build(optimizer, self.network.parameters(), rate)
        self.epoch = 0

    def train_epoch(self) -> dict[str, Any]:
        """Train an epoch; the loss is NaN where the trial diverged, and Z then is NaN too."""
        self.epoch += 1
        x, y = self.data.images["train"], self.data.labels["train"]
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(draw(self.seed, "order", self.epoch)))
        self.network.train()
        total = 0.0
        for rows in order.split(self.batch):
            if len(rows) < 2:
                continue
            loss_of: Any = partial(self._loss, x[rows], y[rows])
            loss = loss_of()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if getattr(self.optimizer, "line_search", False):
                self.optimizer.step(loss_of)
            else:
                self.optimizer.step()
            total += loss.item() * len(rows)
            if not math.isfinite(total):
                break
        row: dict[str, Any] = {"epoch": self.epoch, "train_loss": total / len(y), RESPONSE: math.nan}
        if math.isfinite(total) and all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
            if hasattr(self.optimizer, "end_epoch"):
                self.optimizer.end_epoch()
            if self.z:
                row[RESPONSE] = network_rank(self.network)
        else:
            row["train_loss"] = math.nan
        return row

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.network(x), y)

    @torch.no_grad()
    def accuracy(self, part: str) -> float:
        """Share of images of `part` that are classified right."""
        self.network.eval()
        scores = torch.cat([self.network(x) for x in self.data.images[part].split(200)])
        return float((scores.argmax(1) == self.data.labels[part]).float().mean())
