"""Three convolutional networks that train in well under a second, many at a time on a CPU.

| name        | layers (3 x 3 unless said; batch normalisation and ReLU after each)      | weights |
|-------------|--------------------------------------------------------------------------|---------|
| `plain`     | 8 (stride 2), 16, 16, 32 (stride 2), 32, as VGG                          | 18,000  |
| `residual`  | 8 (stride 2), then basic blocks of 8, 16 and 32 (stride 2) with 1 x 1    | 20,000  |
|             | shortcuts, as ResNet                                                     |         |
| `separable` | 8 (stride 2), then depthwise and 1 x 1 to 16, 32, 32, 64 (stride 2), as  | 5,500   |
|             | MobileNet                                                                |         |

All see images of 12 px (maps of 6 and 3 px) and end in a mean over pixels and a linear classifier.
Weights start from PyTorch's own initialisation.

At this size a step is overhead, not arithmetic: one network alone takes 4 ms a step of 16 images
whatever its maps. So a `Fleet` trains several networks of one architecture as a single one with
that many groups of channels: convolutions grouped, normalisation and everything else as ever. Each
keeps its own task, images, order of batches, rate, optimizer and state; its weights and gradients
are views of the joint ones. What a trial gives differs from the same trial in another fleet by
rounding only.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foretune.errors import BadInput
from foretune.running.learning_rate import SUGGESTED
from foretune.searchers.autohyper import EPOCHS, RESPONSE
from foretune.tasks.task import Task
from foretune.training import optimizers
from foretune.training.paper_optimizers import SLS, AdaS, SelfTuning
from foretune.training.spectral import Gain, gains, zero_share

SIZE = 12  # pixels of the edge
NETWORKS = ("plain", "residual", "separable")
NEVER = -1e9  # the score of a class that a task does not have


def conv(
    before: int, after: int, stride: int = 1, side: int = 3, groups: int = 1, lanes: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Convolution, normalisation, ReLU; of `lanes` networks side by side."""
    layer = nn.Conv2d(
        before * lanes, after * lanes, side, stride, side // 2, groups=groups * lanes, bias=False
    )
    return layer, nn.BatchNorm2d(after * lanes), nn.ReLU()


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2015)."""

    def __init__(self, before: int, after: int, stride: int, lanes: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            *conv(before, after, stride, lanes=lanes), *conv(after, after, lanes=lanes)[:2]
        )
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(*conv(before, after, stride, 1, lanes=lanes)[:2])
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        return F.relu(self.body(x) + self.shortcut(x))


def body(name: str, lanes: int = 1) -> nn.Sequential:
    """`lanes` networks of this name side by side, without classifiers.

    (B, lanes * 3, S, S) to (B, lanes * width). Raises `BadInput` for another name.
    """
    match name:
        case "plain":
            plan = ((3, 8, 2), (8, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1))
            layers = [
                m
                for before, after, stride in plan
                for m in conv(before, after, stride, lanes=lanes)
            ]
        case "residual":
            blocks = [
                Block(before, after, stride, lanes)
                for before, after, stride in ((8, 8, 1), (8, 16, 1), (16, 32, 2))
            ]
            layers = [*conv(3, 8, 2, lanes=lanes), *blocks]
        case "separable":
            layers = [*conv(3, 8, 2, lanes=lanes)]
            for before, after, stride in ((8, 16, 1), (16, 32, 1), (32, 32, 1), (32, 64, 2)):
                layers += conv(before, before, stride, groups=before, lanes=lanes)
                layers += conv(before, after, side=1, lanes=lanes)
        case _:
            raise BadInput(
                f"small network {name!r} is not known; one of {', '.join(NETWORKS)} would be right"
            )
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def network(name: str, classes: int, seed: int) -> nn.Sequential:
    """The network of this name with weights drawn from `seed`.

    Raises `BadInput` for another name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*body(name), nn.Linear(64 if name == "separable" else 32, classes))


@dataclass(frozen=True, eq=False)
class Data:
    """A task at 12 px: images float32 (N, 3, 12, 12), labels int64 (N,), by part.

    Normalised by the train part.
    """

    name: str
    classes: int
    images: dict[str, Tensor]
    labels: dict[str, Tensor]

    @classmethod
    def of(cls, task: Task, train_limit: int = 320, other_limit: int = 500) -> Data:
        """The first images of each part in a fixed shuffled order: classes by their share."""
        images, labels = {}, {}
        for part, limit in (("train", train_limit), ("valid", other_limit), ("test", other_limit)):
            pixels, classes = task.part(part)
            order = np.random.default_rng(0).permutation(len(classes))[:limit]
            x = torch.from_numpy(pixels[order]).permute(0, 3, 1, 2).float() / 255
            images[part] = F.interpolate(
                x, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False
            )
            labels[part] = torch.from_numpy(classes[order])
        mean = images["train"].mean((0, 2, 3), keepdim=True)
        std = images["train"].std((0, 2, 3), keepdim=True)
        normal = {
            part: ((x - mean) / std.clamp_min(1e-3)).contiguous() for part, x in images.items()
        }
        return cls(task.name, task.num_classes, normal, labels)


def random_seed(*what: Any) -> int:
    """A 63-bit seed from a description."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "big") >> 1


DECAY = 5e-4  # weight decay of the paper's AdaS on CIFAR
STEP, GAMMA = 0.1, 0.5  # StepLR of the paper's figure 10: every tenth of the training, by a half


@dataclass(frozen=True)
class Rule:
    """How a trial is optimised: what the label `NAME[:BETA][+decay][+step]` says.

    `options` go to the optimizer; `step` asks for StepLR. Raises `BadInput` for another label, a
    beta of an optimizer that has none, and a schedule of one that chooses its rates itself.
    """

    optimizer: str
    options: dict[str, float]
    step: bool = False

    @classmethod
    def of(cls, label: str) -> Rule:
        """Read a label such as `adas:0.95+decay` or `adam+step`."""
        found = re.fullmatch(r"([a-z]+)(?::([0-9.]+))?(\+decay)?(\+step)?", label)
        if found is None or found[1] not in SUGGESTED:
            raise BadInput(
                f"optimizer {label!r} must be NAME[:BETA][+decay][+step] with a name of "
                f"{', '.join(SUGGESTED)}"
            )
        name, beta, decay, step = found.groups()
        if beta and name != "adas":
            raise BadInput(f"optimizer {label!r}: adas alone has a beta")
        if step and name in ("adas", "sls"):
            raise BadInput(f"optimizer {label!r}: {name} chooses its rates, and has no schedule")
        options = {"beta": float(beta)} if beta else {}
        return cls(name, options | ({"weight_decay": DECAY} if decay else {}), bool(step))

    def factor(self, epoch: int, epochs: int) -> float:
        """By what the rate is multiplied in an epoch (from 1) of a training of `epochs`."""
        every = max(1, round(STEP * epochs))
        return float(GAMMA ** ((epoch - 1) // every)) if self.step else 1.0


class SmallTrial:
    """One network, optimizer (a label of `Rule`) and rate on one task; a `Fleet` trains it.

    The rate is held constant unless the label asks for StepLR over `epochs`. `z` asks for Z_t after
    each epoch.
    """

    def __init__(
        self,
        data: Data,
        name: str,
        optimizer: str,
        rate: float,
        *,
        seed: int = 0,
        batch: int = 16,
        z: bool = True,
        epochs: int = EPOCHS,
    ):
        self.rule, self.rate, self.epochs = Rule.of(optimizer), rate, epochs
        self.data, self.name, self.batch, self.seed, self.z = data, name, batch, seed, z
        self.network = network(name, data.classes, random_seed(seed, "network"))
        self.optimizer = optimizers.build(
            self.rule.optimizer, self.network.parameters(), rate, **self.rule.options
        )
        self.epoch = 0
        self.rows: list[dict[str, Any]] = []
        self.diverged = False
        self.score = 0.0  # what a searcher thinks of it

    def begin_epoch(self) -> None:
        """Count the epoch, and set its rate where a schedule says so."""
        self.epoch += 1
        if self.rule.step:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * self.rule.factor(self.epoch, self.epochs)

    def order(self) -> tuple[Tensor, ...]:
        """The images of this epoch's batches."""
        generator = torch.Generator().manual_seed(random_seed(self.seed, "order", self.epoch))
        order = torch.randperm(len(self.data.labels["train"]), generator=generator)
        return tuple(rows for rows in order.split(self.batch) if len(rows) > 1)

    @torch.no_grad()
    def accuracy(self, part: str) -> float:
        """Share of images of `part` that are classified right.

        A network that diverged gets the share of one class in all.
        """
        if self.diverged:
            return 1 / self.data.classes
        self.network.eval()
        scores = torch.cat([self.network(x) for x in self.data.images[part].split(250)])
        return float((scores.argmax(1) == self.data.labels[part]).float().mean())


class Fleet:
    """Trials of one architecture, trained together.

    A trial may be in one fleet after another, but only in the last one made.

    Raises `BadInput` for trials of several networks or batch sizes, or with different numbers of
    images.
    """

    def __init__(self, trials: Sequence[SmallTrial]):
        self.trials = list(trials)
        kinds = {(t.name, t.batch, len(t.data.labels["train"])) for t in self.trials}
        if len(kinds) != 1:
            raise BadInput(
                "the trials of a fleet must share network, batch size and number of images, "
                f"but got {kinds}"
            )
        self.body = body(self.trials[0].name, len(self.trials))
        self.joint: list[Tensor] = []
        pieces = [list(t.network.children()) for t in self.trials]
        bodies = [nn.Sequential(*p[:-1]) for p in pieces]
        heads = [list(p[-1].parameters()) for p in pieces]
        for joint, *own in zip(
            *(chain(b.parameters(), b.buffers()) for b in (self.body, *bodies)), strict=True
        ):
            if joint.ndim:  # all but the counts of batches
                joint.data = torch.cat([p.data for p in own])
                for p, part in zip(own, joint.data.chunk(len(own)), strict=True):
                    p.data = part
                self._share_gradients(joint, own)
        most, width = max(t.data.classes for t in self.trials), heads[0][0].shape[1]
        self.weight = torch.zeros(len(heads), most, width, requires_grad=True)
        self.bias = torch.full((len(heads), most), NEVER, requires_grad=True)
        for joint, *own in zip((self.weight, self.bias), *heads, strict=True):
            for p, row in zip(own, joint.data, strict=True):
                row[: len(p)] = p.data
                p.data = row[: len(p)]
            self._share_gradients(joint, own)

    def _share_gradients(self, joint: Tensor, own: Sequence[Tensor]) -> None:
        if joint.requires_grad:
            joint.grad = torch.zeros_like(joint)
            parts = joint.grad if joint.ndim > own[0].ndim else joint.grad.chunk(len(own))
            for p, part in zip(own, parts, strict=True):
                p.grad = part[: len(p)]
            self.joint.append(joint)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean loss (lanes,) of images (B, lanes * 3, S, S) with labels (lanes, B)."""
        # (lanes, B, width)
        features = self.body(x).unflatten(1, (len(self.trials), -1)).transpose(0, 1)
        scores = torch.baddbmm(self.bias[:, None], features, self.weight.mT)  # (lanes, B, classes)
        return (
            F.cross_entropy(scores.flatten(0, 1), y.flatten(), reduction="none")
            .view(y.shape)
            .mean(1)
        )

    def train_epoch(self) -> list[dict[str, Any]]:
        """Train an epoch: a row for each trial as `foretune.training.trial` gives, with Z_t.

        NaN where a trial has diverged. Rows are kept in `trial.rows`.
        """
        for t in self.trials:
            t.begin_epoch()
        orders = [t.order() for t in self.trials]
        total = [0.0] * len(self.trials)
        self.body.train()
        for k in range(len(orders[0])):
            x = torch.cat(
                [t.data.images["train"][o[k]] for t, o in zip(self.trials, orders, strict=True)], 1
            )
            y = torch.stack(
                [t.data.labels["train"][o[k]] for t, o in zip(self.trials, orders, strict=True)]
            )
            loss = self.losses(x, y)
            torch._foreach_zero_([p.grad for p in self.joint if p.grad is not None])
            loss.sum().backward()
            now = loss.tolist()
            for lane, value in enumerate(now):
                total[lane] += value * y.shape[1]
                self.trials[lane].diverged |= not math.isfinite(total[lane])
            self._step(x, y, now)
        rows = [
            self._row(t, value / sum(map(len, o)))
            for t, value, o in zip(self.trials, total, orders, strict=True)
        ]
        for t, z in zip(self.trials, self.ranks(), strict=True):
            t.rows[-1][RESPONSE] = z
        return rows

    def ranks(self) -> list[float]:
        """Z_t of every trial that asks for it and has not diverged (else NaN), all together."""
        asking = {lane: t for lane, t in enumerate(self.trials) if t.z and not t.diverged}
        known = {
            lane: t.optimizer.gains for lane, t in asking.items() if isinstance(t.optimizer, AdaS)
        }
        layers = {
            f"{lane}.{name}": (m.weight, m.groups)
            for lane, t in asking.items()
            if lane not in known  # AdaS has decomposed its own
            for name, m in t.network.named_modules()
            if isinstance(m, nn.Conv2d)
        }
        found = gains(layers) if layers else []
        by_lane: dict[int, list[Gain]] = {lane: list(known.get(lane, [])) for lane in asking}
        for gain in found:
            by_lane[int(gain.layer.split(".")[0])].append(gain)
        return [
            zero_share(by_lane[lane]) if lane in asking else math.nan
            for lane in range(len(self.trials))
        ]

    def _step(self, x: Tensor, y: Tensor, now: Sequence[float]) -> None:
        searches = {}
        for lane, t in enumerate(self.trials):
            if t.diverged:
                continue
            if isinstance(t.optimizer, SLS):  # line searches look at their batch together
                searches[lane] = t.optimizer.search()
                next(searches[lane])
            else:
                t.optimizer.step()
        while searches:
            for lane in list(searches):
                try:
                    searches[lane].send(now[lane])
                except StopIteration:
                    del searches[lane]
            if searches:
                now = self._look(x, y)

    @torch.no_grad()
    def _look(self, x: Tensor, y: Tensor) -> list[float]:
        """Losses without a trace in the running means of normalisation."""
        layers = [m for m in self.body.modules() if isinstance(m, nn.BatchNorm2d)]
        for m in layers:
            m.momentum = 0.0
        out: list[float] = self.losses(x, y).tolist()
        for m in layers:
            m.momentum = 0.1
        return out

    def _row(self, trial: SmallTrial, loss: float) -> dict[str, Any]:
        trial.diverged |= not all(bool(torch.isfinite(p).all()) for p in trial.network.parameters())
        row = {
            "epoch": trial.epoch,
            "train_loss": math.nan if trial.diverged else loss,
            RESPONSE: math.nan,
        }
        if not trial.diverged and isinstance(trial.optimizer, SelfTuning):
            trial.optimizer.end_epoch()
        trial.rows.append(row)
        return row
