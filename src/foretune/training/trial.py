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

import torch
from torch import Tensor
from torch.nn import functional as F

from foretune.errors import BadInput
from foretune.history.join import learning_settings
from foretune.space.space import Space
from foretune.study.outcome import Row
from foretune.tasks.split import PARTS
from foretune.tasks.task import Task
from foretune.training import checkpoints, networks, optimizers
from foretune.training.activations import Activations, Part, shared
from foretune.training.assessment import Assessment
from foretune.training.augmentation import augment, normalise, to_float
from foretune.training.losses import Loss, Mixing
from foretune.training.metrics import class_metrics
from foretune.training.paper_optimizers import SelfTuning, rank_after_epoch
from foretune.training.recipe import Augmentation, Recipe, recipe, recipes_of
from foretune.training.sampling import batches_of, order_of
from foretune.training.schedules import learning_rate
from foretune.training.seeds import drawing, seed_for
from foretune.training.settings import Settings

EVALUATION_BATCH = 256
# metrics of a row, on the valid part
FURTHER = ("balanced_accuracy", "macro_f1", "auroc", "kappa", "log_loss")
JUDGED = ("loss", "accuracy", "top5", *FURTHER)
PLAIN = Augmentation()


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

    That is the device, a space that the trainer does not understand, an optimizer that refuses its
    options, a network that does not take the images' size, weights that cannot be had.
    """
    device_of(settings.device)
    asked = recipes_of(space, settings)
    for one in asked:
        optimizers.check(one)
    for network in sorted({one.network for one in asked}):
        drop_path = max(one.drop_path for one in asked if one.network == network)
        networks.check_buildable(
            network, settings.pretrained, settings.weights, settings.image_size, drop_path
        )
    if settings.compile:
        _check_compiler()


def _check_compiler() -> None:
    try:
        torch.compile(torch.nn.ReLU())(torch.zeros(2))
    except (RuntimeError, OSError) as error:
        raise BadInput(
            f"setting compile is on, but nothing can be compiled here: {str(error).splitlines()[0]}"
        ) from error


def fingerprint(task: Task, config: Mapping[str, Any], settings: Settings, seed: int) -> str:
    """A hash of what decides a trial, so that no other checkpoint is taken for its own."""
    fixed = learning_settings(asdict(settings))
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
        self.network = networks.of_recipe(
            self.recipe,
            task.num_classes,
            settings,
            seed_for(seed, "network"),
            self.device,
        )
        self.optimizer = optimizers.of_recipe(self.network, self.recipe)
        self.averaged = averaged(self.network, self.recipe.ema)
        self.epoch = 0
        self.rows: list[Row] = []
        self._cache = cache or shared()
        self._origin = origin_of(settings, seed)
        self._train = self.part("train", settings.train_limit)
        # a task without a valid part is trained on whole, and judged by nothing
        judged = bool((task.split == PARTS.index("valid")).any())
        self._valid = self.part("valid", settings.valid_limit) if judged else None
        self._loss = Loss(self.recipe, self._train.labels, task.num_classes)
        self._mixing = Mixing(self.recipe, task.num_classes) if self.recipe.mixes else None
        self._run: Callable[..., Tensor] = self.network
        if settings.compile:
            self._run = torch.compile(self.network)

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

    def _start(self) -> int:
        """The layer that an epoch starts at: the boundary, where the output of the frozen layers
        can be kept, else 0.
        """
        return self.network.first if self.network.first > 0 and self.network.divided else 0

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
            scores = self.evaluate(self._valid) if self._valid is not None else {}
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
        if not math.isfinite(scores.get("loss", 0.0)):
            raise Diverged(epoch, f"validation loss is {scores['loss']}", list(self.rows))
        share = self._zero_share(epoch) if self.rank else {}
        seconds = time.perf_counter() - began
        self.epoch = epoch
        self.rows.append(
            {
                "epoch": epoch,
                "train_loss": loss,
                **{f"valid_{name}": scores[name] for name in JUDGED if name in scores},
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
        rate = learning_rate(
            chosen.scheduler,
            chosen.learning_rate,
            epoch,
            self.settings.max_epoch,
            chosen.warmup_epochs,
            **chosen.scheduler_options,
        )
        optimizers.set_rate(self.optimizer, rate)
        order = order_of(labels, chosen.balanced_sampling, self.seed, epoch)
        batches = batches_of(order.to(self.device), chosen.batch_size, even=chosen.mixes)
        generator = torch.Generator().manual_seed(seed_for(self.seed, "augmentation", epoch))
        # images that are mixed with others are new ones to the frozen layers too
        start = 0 if self._mixing else self._start()
        frozen = None
        if start:
            view = (epoch - 1) % chosen.augmentation.views
            frozen = self._train.at_boundary(network, self._origin, chosen.augmentation, view)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        step, trained = (epoch - 1) * len(batches), network.trained_parameters()
        with drawing(seed_for(self.seed, "dropout", epoch), self.device):
            for batch in batches:
                target = labels[batch]
                if frozen is not None:
                    x = frozen[batch]
                else:
                    pixels = to_float(self._train.images[batch])
                    x = self._normal(augment(pixels, chosen.augmentation, generator))
                    if self._mixing:
                        x, target = self._mixing(x, target)
                loss = self._loss_of(x, target, start)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if chosen.clip_grad:
                    torch.nn.utils.clip_grad_norm_(trained, chosen.clip_grad)
                if isinstance(self.optimizer, SelfTuning) and self.optimizer.needs_loss:
                    self.optimizer.step(partial(self._loss_of, x, target, start))
                else:
                    self.optimizer.step()
                step += 1
                if self.averaged is not None:
                    self.averaged.update(network, step=step)
                total += loss.detach() * len(batch)
        if isinstance(self.optimizer, SelfTuning):
            self.optimizer.end_epoch()
        return rate, float(total) / sum(map(len, batches))

    def _loss_of(self, x: Tensor, target: Tensor, start: int) -> Tensor:
        with self._autocast():
            logits = self._run(x, start=start)
        return self._loss(logits, target)

    @property
    def evaluated(self) -> networks.Network:
        """The network that counts: the averaged one, where the recipe averages."""
        return self.network if self.averaged is None else self.averaged.module

    @torch.inference_mode()
    def logits(self, part: Part) -> Tensor:
        """What the network says about the images of a part, without augmentation, (N, classes)."""
        start, network = self._start(), self.evaluated.eval()
        source = part.at_boundary(network, self._origin, PLAIN, 0) if start else part.images
        scores = []
        for batch in source.split(EVALUATION_BATCH):
            x = batch if start else self._normal(to_float(batch))
            with self._autocast():
                scores.append(network(x, start=start).float())
        return torch.cat(scores)

    @torch.inference_mode()
    def evaluate(self, part: Part) -> dict[str, float]:
        """Loss, accuracy (top-1), top5 and the metrics by class on a part, without augmentation.

        With fewer than five classes, top5 is of all of them.
        """
        logits = self.logits(part)
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices == part.labels[:, None]
        loss = float(F.cross_entropy(logits, part.labels))
        return {
            "loss": loss,
            "accuracy": float(top[:, 0].double().mean()),
            "top5": float(top.any(1).double().mean()),
            "log_loss": loss,
            **class_metrics(part.labels.cpu().numpy(), logits.softmax(1).cpu().numpy()),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the trial (see `foretune.training.checkpoints`)."""
        return {
            "format": 1,
            "fingerprint": fingerprint(self.task, self.config, self.settings, self.seed),
            "task": self.task.name,
            "class_names": list(self.task.class_names),
            "crop": self.task.crop,
            "read_size": int(self.task.images.shape[1]),
            "config": self.config,
            "settings": asdict(self.settings),
            "seed": self.seed,
            "network_seed": seed_for(self.seed, "network"),
            "rows": self.rows,
            "network": self.network.trained_state(),
            "optimizer": self.optimizer.state_dict(),
            **({"averaged": self.evaluated.trained_state()} if self.averaged is not None else {}),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the trial where `state` left it."""
        self.network.load_state_dict(state["network"], strict=False)  # frozen stages are not in it
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.module.load_state_dict(state["averaged"], strict=False)
        self.rows = [dict(row) for row in state["rows"]]
        self.epoch = len(self.rows)


def averaged(network: networks.Network, decay: float) -> Any:
    """timm's moving average of the network's weights (`ModelEmaV3`), None for a decay of 0.

    The decay rises to its value, so that a few hundred steps are enough to leave the first weights
    behind.
    """
    if decay == 0:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(network, decay=decay, use_warmup=True)


def origin_of(settings: Settings, seed: int) -> Any:
    """What says which weights a trunk has: the seed of random ones, the file of the user's."""
    if settings.weights is not None:
        about = Path(settings.weights).stat()
        return settings.weights, about.st_mtime_ns, about.st_size
    return "imagenet" if settings.pretrained else seed


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

    A row has epoch, train_loss, valid_loss, valid_accuracy, valid_top5, the other metrics
    (`foretune.training.metrics`; none of a task without a valid part), learning_rate, seconds,
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


def assess(task: Task, checkpoint: Path, part: str = "test", device: str = "auto") -> Assessment:
    """What a trial's network says about each image of a whole part of its task."""
    trial = reopen(task, checkpoint, device)
    images = trial.part(part)
    probabilities = trial.logits(images).softmax(1).cpu().numpy()
    return Assessment(images.labels.cpu().numpy(), probabilities, task.class_names)


def evaluate(
    task: Task, checkpoint: Path, part: str = "test", settings: Settings | None = None
) -> dict[str, float]:
    """Loss, accuracy and top5 of a trial on a whole part of its task: the best one, at the end.

    `settings` may name another device; everything else comes from the checkpoint.
    """
    trial = reopen(task, checkpoint, "auto" if settings is None else settings.device)
    return trial.evaluate(trial.part(part))
