"""Images and frozen activations, held on the device and shared by the trials of a process.

A frozen trunk gives the same output in every epoch and in every trial, so it is computed once and
trials read it back. With augmentation, `VIEWS` augmented copies are kept and epochs cycle through
them (epoch e sees view (e - 1) mod `VIEWS`); the views' random numbers depend on the view alone, so
that all trials and seeds share them. A view is computed when an epoch first asks for it.

The cache is bounded in bytes and drops what was used longest ago; nothing depends on what it holds
except time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foretune.tasks.task import Task
from foretune.training.augmentation import augment, normalise, resize, to_float
from foretune.training.network import Network
from foretune.training.recipe import Augmentation

VIEWS = 4
# images that go through a frozen trunk at once: fixed, so that the activations do not depend on a
# trial's batch size
CHUNK = 128


class Activations:
    """Tensors by key, at most `limit` bytes together, the least recently used dropped first.

    A tensor larger than `limit` is not kept.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of `key`, made by `make` where it is not held."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = make()
        size = value.element_size() * value.numel()
        if size > self.limit:
            return value
        while self.used + size > self.limit:
            _, old = self._kept.popitem(last=False)
            self.used -= old.element_size() * old.numel()
        self._kept[key] = value
        self.used += size
        return value


@lru_cache(maxsize=1)
def shared() -> Activations:
    """The cache of this process: 1 GiB."""
    return Activations(limit=2**30)


def subset(labels: np.ndarray, limit: int) -> np.ndarray:
    """Indices (n,), ascending, of at most `limit` labels (0 = all), each class by its share.

    They are the same for every trial.
    """
    if limit == 0 or limit >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng(0)
    # quantile of each image within its own class: the lowest ones are a stratified sample
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        position[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(position, kind="stable")[:limit])


def classes_left_out(labels: np.ndarray, limit: int) -> int:
    """How many classes of `labels` have no image among the `limit` that `subset` takes."""
    return len(np.unique(labels)) - len(np.unique(labels[subset(labels, limit)]))


class Part:
    """Images and labels of one part of a task as a trial sees them, on the device.

    Images are uint8 (N, 3, size, size), labels int64 (N,).
    """

    def __init__(
        self,
        task: Task,
        part: str,
        *,
        limit: int,
        size: int,
        device: torch.device,
        cache: Activations,
    ):
        self.cache, self.device = cache, device
        threads = torch.get_num_threads()
        self.key: tuple[Any, ...] = (task.hash, part, limit, size, str(device), threads)
        self._task, self._part, self._limit, self._size = task, part, limit, size
        self.labels = cache.get((*self.key, "labels"), lambda: self._load()[1])
        self.images = cache.get((*self.key, "images"), lambda: self._load()[0])

    def __len__(self) -> int:
        return len(self.labels)

    def _load(self) -> tuple[Tensor, Tensor]:
        images, labels = self._task.part(self._part)
        chosen = subset(labels, self._limit)
        pixels = torch.from_numpy(np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2)))
        kept = torch.from_numpy(labels[chosen].astype(np.int64))
        return resize(pixels, self._size).to(self.device), kept.to(self.device)

    def at_boundary(
        self, network: Network, origin: Hashable, policy: str | Augmentation, view: int
    ) -> Tensor:
        """The output of `network`'s frozen stages for all images, (N, C, h, w).

        (N, C) where only the head is trained.

        `origin` names the trunk's weights (the seed of a random one), `view` the augmented copy.
        """
        key = (*self.key, "activations", network.name, origin, network.first, policy, view)
        return self.cache.get(key, lambda: self._compute(network, policy, view))

    @torch.no_grad()
    def _compute(self, network: Network, policy: str | Augmentation, view: int) -> Tensor:
        generator = torch.Generator().manual_seed(view)
        outputs = []
        for images in self.images.split(CHUNK):
            pixels = augment(to_float(images), policy, generator)
            pixels = normalise(pixels, network.mean, network.std)
            kind = self.device.type
            with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
                outputs.append(network(pixels, stop=network.first))
        return torch.cat(outputs)
