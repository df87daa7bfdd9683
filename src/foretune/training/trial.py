"""Training trials, resumable at every epoch, with the same numbers however often they are cut.

    rows = train(task, config, 0, 3, settings=Settings(), seed=0, checkpoint=Path("trial.ckpt"))
    rows += train(task, config, 3, 10, settings=Settings(), seed=0, checkpoint=Path("trial.ckpt"))

Why 1 + 1 + 1 epochs equal 3 epochs, bit for bit on a CPU: nothing is drawn from a generator that
lives longer than an epoch. Order, augmentation and dropout of epoch e come from (seed, e), the
learning rate from (e, max_epoch); what is left to carry is the trained tensors, the BatchNorm
buffers and the optimizer's state, and the checkpoint has just these. Frozen stages are not in it:
they come back from the ImageNet weights, or from the seed. The same seed gives the same numbers on
one number of threads.

Where the time goes, and what was done about it (measured figures in docs/guide/networks.md): images
lie on the device as one uint8 tensor and are augmented in batches; frozen stages run once per task,
not once per epoch and trial (`foretune.training.activations`); channels-last everywhere; bfloat16
autocast on CUDA.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foretune.errors import BadInput
from foretune.space.space import Space
from foretune.study.outcome import Row
from foretune.tasks.task import Task
from foretune.training import checkpoints, networks, optimizers
from foretune.training.activations import VIEWS, Activations, Part, shared
from foretune.training.augmentation import augment, normalise, to_float
from foretune.training.export import export
from foretune.training.paper_optimizers import SelfTuning, rank_after_epoch
from foretune.training.recipe import Recipe, Settings, recipe

__all__ = [
    "Diverged",
    "OutOfMemory",
    "Settings",
    "Trial",
    "TrialFailed",
    "check_trainable",
    "evaluate",
    "export",
    "reopen",
    "train",
]

EVALUATION_BATCH = 256
DRAWS = 50  # of a space, to see whether the trainer understands it


class TrialFailed(RuntimeError):
    """A trial that cannot go on.

    `epoch` in which it failed, `reason`, and the `rows` of the epochs before, from the step's
    start.
    """

    def __init__(self, epoch: int, reason: str, rows: list[Row]):
        super().__init__(f"trial failed in epoch {epoch}: {reason}")
        self.epoch, self.reason, self.rows = epoch, reason, rows


class Diverged(TrialFailed):
    """The loss is no longer a finite number."""


class OutOfMemory(TrialFailed):
    """The device has not enough memory for this configuration."""


def seed_for(seed: int, purpose: str, epoch: int = 0) -> int:
    """A 63-bit seed for one purpose in one epoch of a trial."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def device_of(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises `BadInput` for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(
            f"setting device is {name!r}, but there is no CUDA device here; auto or cpu would "
            "be right"
        )
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise BadInput(
            f"setting device is {name!r}; auto, cpu, cuda or cuda:N would be right"
        ) from error


def check_trainable(settings: Settings, space: Space) -> None:
    """Raise `BadInput` now for what would fail trials later.

    That is the device, a space that the trainer does not understand, ImageNet weights.

    The space is tried by its default and by `DRAWS` of its configurations, each with its optimizer.
    """
    device_of(settings.device)
    network = recipe(space.default(), settings).network
    weight = [torch.nn.Parameter(torch.zeros(1))]
    for config in (space.default(), *space.sample(DRAWS, np.random.default_rng(0))):
        asked = recipe(config, settings)
        optimizers.build(
            asked.optimizer,
            weight,
            asked.learning_rate,
            asked.weight_decay,
            **asked.optimizer_options,
        )
    if settings.pretrained:
        networks.imagenet_state(network)


def fingerprint(task: Task, config: Mapping[str, Any], settings: Settings, seed: int) -> str:
    """A hash of what decides a trial, so that no other checkpoint is taken for its own."""
    fixed = {k: v for k, v in asdict(settings).items() if k not in ("device", "threads")}
    text = json.dumps([task.hash, dict(config), fixed, seed], sort_keys=True, default=float)
    return hashlib.sha256(text.encode()).hexdigest()


class Trial:
    """One configuration on one task: its network, its optimizer and the epochs so far.

    With `rank`, rows hold `zero_share` too.
    """

    def __init__(
        self,
        task: Task,
        config: Mapping[str, Any],
        settings: Settings,
        seed: int,
        cache: Activations | None = None,
        rank: bool = False,
    ):
        if torch.get_num_threads() != settings.threads:
            torch.set_num_threads(settings.threads)
        self.task, self.config, self.settings = task, dict(config), settings
        self.seed, self.rank = seed, rank
        self.recipe: Recipe = recipe(config, settings)
        self.device = device_of(settings.device)
        self.network = networks.build(
            self.recipe.network,
            task.num_classes,
            settings.pretrained,
            finetune=self.recipe.finetune,
            seed=seed_for(seed, "network"),
            device=self.device,
        )
        self.optimizer = optimizers.build(
            self.recipe.optimizer,
            self.network.trained_parameters(),
            self.recipe.learning_rate,
            self.recipe.weight_decay,
            **self.recipe.optimizer_options,
        )
        self.epoch = 0
        self.rows: list[Row] = []
        self._cache = cache or shared()
        self._origin = "imagenet" if settings.pretrained else seed
        self._train = self.part("train", settings.train_limit)
        self._valid = self.part("valid", settings.valid_limit)

    def part(self, part: str, limit: int = 0) -> Part:
        """Images of one part of the task, on the trial's device."""
        return Part(
            self.task,
            part,
            limit=limit,
            size=self.settings.image_size,
            device=self.device,
            cache=self._cache,
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _normal(self, images: Tensor) -> Tensor:
        return normalise(images, self.network.mean, self.network.std)

    def train_epoch(self) -> Row:
        """Train the next epoch, look at the valid part, append and return the row.

        Raises `Diverged` or `OutOfMemory`.
        """
        epoch = self.epoch + 1
        began = time.perf_counter()
        try:
            rate, loss = self._pass(epoch)
            if not math.isfinite(loss):
                raise Diverged(epoch, f"training loss is {loss}", list(self.rows))
            scores = self.evaluate(self._valid)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(
                epoch,
                str(error).splitlines()[0] if str(error) else "out of memory",
                list(self.rows),
            ) from error
        except RuntimeError as error:  # the CPU allocator's complaint has no class of its own
            if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
                raise
            raise OutOfMemory(epoch, str(error).splitlines()[0], list(self.rows)) from error
        if not math.isfinite(scores["loss"]):
            raise Diverged(epoch, f"validation loss is {scores['loss']}", list(self.rows))
        share = self._zero_share(epoch) if self.rank else {}
        seconds = time.perf_counter() - began
        self.epoch = epoch
        self.rows.append(
            {
                "epoch": epoch,
                "train_loss": loss,
                "valid_loss": scores["loss"],
                "valid_accuracy": scores["accuracy"],
                "valid_top5": scores["top5"],
                "learning_rate": rate,
                "seconds": seconds,
                "images_per_second": len(self._train) / seconds,
                **share,
            }
        )
        return self.rows[-1]

    def _zero_share(self, epoch: int) -> dict[str, float]:
        """Z_t (`foretune.training.spectral`) of the convolutions that are trained.

        Nothing where none is.
        """

        weights = [
            m.weight
            for m in self.network.modules()
            if isinstance(m, torch.nn.Conv2d) and m.weight.requires_grad
        ]
        if not all(bool(torch.isfinite(w).all()) for w in weights):
            raise Diverged(epoch, "weights are not finite", list(self.rows))
        return {"zero_share": rank_after_epoch(self.network, self.optimizer)} if weights else {}

    def _pass(self, epoch: int) -> tuple[float, float]:
        """One pass over the train part: (learning rate, mean loss)."""
        chosen, network, labels = self.recipe, self.network.train(), self._train.labels
        rate = optimizers.learning_rate(
            chosen.scheduler,
            chosen.learning_rate,
            epoch,
            self.settings.max_epoch,
            **chosen.scheduler_options,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        order = torch.randperm(
            len(labels),
            generator=torch.Generator().manual_seed(seed_for(self.seed, "order", epoch)),
        )
        generator = torch.Generator().manual_seed(seed_for(self.seed, "augmentation", epoch))
        frozen = None
        if network.first:
            view = (epoch - 1) % VIEWS if chosen.augmentation != "none" else 0
            frozen = self._train.at_boundary(network, self._origin, chosen.augmentation, view)
        batches = list(order.to(self.device).split(chosen.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:  # BatchNorm has no variance of one image
            batches[-2:] = [torch.cat(batches[-2:])]
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed_for(self.seed, "dropout", epoch))
            for batch in batches:
                if frozen is None:
                    x = self._normal(
                        augment(to_float(self._train.images[batch]), chosen.augmentation, generator)
                    )
                else:
                    x = frozen[batch]
                with self._autocast():
                    logits = network(x, start=network.first)
                loss = F.cross_entropy(logits.float(), labels[batch])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if isinstance(self.optimizer, SelfTuning) and self.optimizer.needs_loss:
                    self.optimizer.step(partial(self._loss, x, labels[batch]))
                else:
                    self.optimizer.step()
                total += loss.detach() * len(batch)
        if isinstance(self.optimizer, SelfTuning):
            self.optimizer.end_epoch()
        return rate, float(total) / len(labels)

    def _loss(self, x: Tensor, labels: Tensor) -> Tensor:
        with self._autocast():
            logits = self.network(x, start=self.network.first)
        return F.cross_entropy(logits.float(), labels)

    @torch.inference_mode()
    def evaluate(self, part: Part) -> dict[str, float]:
        """Loss, accuracy (top-1) and top5 on a part, without augmentation.

        With fewer than five classes, top5 is of all of them.
        """
        network = self.network.eval()
        frozen = network.first > 0
        source = part.at_boundary(network, self._origin, "none", 0) if frozen else part.images
        scores = []
        for batch in source.split(EVALUATION_BATCH):
            x = batch if frozen else self._normal(to_float(batch))
            with self._autocast():
                scores.append(network(x, start=network.first).float())
        logits = torch.cat(scores)
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices == part.labels[:, None]
        return {
            "loss": float(F.cross_entropy(logits, part.labels)),
            "accuracy": float(top[:, 0].double().mean()),
            "top5": float(top.any(1).double().mean()),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the trial (see `foretune.training.checkpoints`)."""
        return {
            "format": 1,
            "fingerprint": fingerprint(self.task, self.config, self.settings, self.seed),
            "task": self.task.name,
            "class_names": list(self.task.class_names),
            "crop": self.task.crop,
            "config": self.config,
            "settings": asdict(self.settings),
            "seed": self.seed,
            "network_seed": seed_for(self.seed, "network"),
            "rows": self.rows,
            "network": self.network.trained_state(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the trial where `state` left it."""
        self.network.load_state_dict(state["network"], strict=False)  # frozen stages are not in it
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows = [dict(row) for row in state["rows"]]
        self.epoch = len(self.rows)


def train(
    task: Task,
    config: Mapping[str, Any],
    start: int,
    stop: int,
    *,
    settings: Settings,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Row], None] | None = None,
    rank: bool = False,
) -> list[Row]:
    """Take a trial from epoch `start` (done) to `stop`; returns one row for each epoch in between.

    A row has epoch, train_loss, valid_loss, valid_accuracy, valid_top5, learning_rate, seconds,
    images_per_second, and with `rank` zero_share (`foretune.training.spectral`; missing where no
    convolution is trained). With a `checkpoint`, the state is written after each epoch, epochs that
    it already has are returned and not trained again, and a missing or damaged one is made up for
    by training from epoch 0 (the numbers are the same). Without one, the epochs up to `start` are
    always trained again. `on_epoch` gets each row to be returned as soon as it is known. Raises
    `Diverged` or `OutOfMemory` (their `rows`: this step's epochs before the failure) and `BadInput`
    for epochs out of range, an unknown configuration, or a checkpoint of another trial.
    """
    if not 0 <= start < stop <= settings.max_epoch:
        raise BadInput(
            f"`0 <= start < stop <= max_epoch` must hold, but got ({start=}, {stop=}, "
            f"max_epoch={settings.max_epoch})"
        )
    report = on_epoch or (lambda row: None)
    device = device_of(settings.device)
    state = checkpoints.load(checkpoint, device) if checkpoint is not None else None
    if state is not None and state["fingerprint"] != fingerprint(task, config, settings, seed):
        raise BadInput(
            f"checkpoint {checkpoint} is of another trial (task, configuration, settings or "
            "seed differ); delete it to start again"
        )
    rows: list[Row] = [dict(row) for row in state["rows"]] if state is not None else []
    for row in rows[start:stop]:
        report(row)
    if len(rows) >= stop:
        return rows[start:stop]
    trial = Trial(task, config, settings, seed, rank=rank)
    if state is not None:
        trial.restore(state)
    try:
        while trial.epoch < stop:
            row = trial.train_epoch()
            if checkpoint is not None:
                checkpoints.save(checkpoint, trial.state())
            if trial.epoch > start:
                report(row)
    except TrialFailed as failure:
        failure.rows = failure.rows[start:]
        raise
    return trial.rows[start:stop]


def reopen(task: Task, checkpoint: Path, device: str = "auto") -> Trial:
    """The trial that `checkpoint` holds.

    Raises `BadInput` where there is none or it was trained on another task.
    """
    state = checkpoints.load(checkpoint, device_of(device))
    if state is None:
        raise BadInput(f"checkpoint {checkpoint} is missing or damaged")
    settings = Settings(**{**state["settings"], "device": device})
    trial = Trial(task, state["config"], settings, state["seed"])
    if state["fingerprint"] != fingerprint(task, state["config"], settings, state["seed"]):
        raise BadInput(
            f"checkpoint {checkpoint} was trained on task {state['task']!r} with other images "
            f"than task {task.name!r} has"
        )
    trial.restore(state)
    return trial


def evaluate(
    task: Task, checkpoint: Path, part: str = "test", settings: Settings | None = None
) -> dict[str, float]:
    """Loss, accuracy and top5 of a trial on a whole part of its task: the best one, at the end.

    `settings` may name another device; everything else comes from the checkpoint.
    """
    trial = reopen(task, checkpoint, "auto" if settings is None else settings.device)
    return trial.evaluate(trial.part(part))
