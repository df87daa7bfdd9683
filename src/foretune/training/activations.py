"""Images and frozen activations, held on the device and shared by the trials of a process.

A frozen trunk gives the same output in every epoch and in every trial, so it is computed once and
trials read it back. With augmentation, several augmented copies are kept and epochs cycle through
them (epoch e sees view (e - 1) mod `Augmentation.views`); the views' random numbers depend on the
view alone, so that all trials and seeds share them. A view is computed when an epoch first asks for
it.

The cache is bounded in bytes and drops what was used longest ago; nothing depends on what it holds
except time. Images and activations of a part that would fill the cache alone are not held: images
are read a batch at a time (`Streamed`), activations lie in a temporary file (`Spilled`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foretune.tasks.split import PARTS
from foretune.tasks.task import Images, Task
from foretune.training.augmentation import augment, normalise, resize, to_float
from foretune.training.network import Network
from foretune.training.recipe import Augmentation

# images that go through a frozen trunk at once: fixed, so that the activations do not depend on a
# trial's batch size
CHUNK = 128


class Shelf:
    """Rows by key, at most `limit` bytes together, the least recently used dropped first.

    What is larger than `limit` is not kept.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def take(self, key: Hashable) -> Any:
        """What is kept under `key`, which is used now."""
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep `value`, if it can be."""
        if value.nbytes > self.limit:
            return
        while self.used + value.nbytes > self.limit:
            _, old = self._kept.popitem(last=False)
            self.used -= old.nbytes
        self._kept[key] = value
        self.used += value.nbytes


class Activations:
    """Tensors by key, at most `limit` bytes in memory, and `disk` bytes of `Spilled` ones in
    temporary files (default: a quarter of what is free where these lie).
    """

    def __init__(self, limit: int, disk: int | None = None):
        if disk is None:
            disk = shutil.disk_usage(tempfile.gettempdir()).free // 4
        self.limit = limit
        self.memory, self.disk = Shelf(limit), Shelf(disk)

    @property
    def used(self) -> int:
        """Bytes in memory."""
        return self.memory.used

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The tensor of `key`, or what stands for it, made by `make` where it is not held."""
        for shelf in (self.memory, self.disk):
            if key in shelf:
                return shelf.take(key)
        value = make()
        (self.disk if isinstance(value, Spilled) else self.memory).put(key, value)
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


class Streamed:
    """Images of a part that are read where they are asked for: what `Part.images` is of a part that
    is too large to be held. The numbers are those of a part that is held.
    """

    def __init__(self, images: Images, chosen: np.ndarray, size: int, device: torch.device):
        self._images, self._chosen, self._size, self._device = images, chosen, size, device

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Tensor) -> Tensor:
        images = self._images[self._chosen[index.cpu().numpy()]]
        if images.shape[1:3] == (self._size, self._size):
            # the layout that the trainer wants, without a copy
            return torch.from_numpy(images).permute(0, 3, 1, 2).to(self._device)
        return as_tensor(images, self._size).to(self._device)

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in order, `size` at a time."""
        for rows in torch.arange(len(self)).split(size):
            yield self[rows]


class Spilled:
    """A tensor's rows in a temporary file, which the system deletes with the process.

    `chunks` are its rows in order; `device` is where they are wanted.
    """

    def __init__(self, chunks: Iterable[Tensor], device: torch.device):
        # lives as long as this, and closes itself
        self._file = tempfile.TemporaryFile(prefix="foretune-activations-")  # noqa: SIM115
        self._device, self._count = device, 0
        for chunk in chunks:
            self._shape, self._dtype = chunk.shape[1:], chunk.dtype
            self._layout = torch.contiguous_format
            if chunk.ndim == 4 and chunk.is_contiguous(memory_format=torch.channels_last):
                self._layout = torch.channels_last
            self._row = chunk[0].numel() * chunk.element_size()
            self._file.write(chunk.cpu().contiguous().view(torch.uint8).numpy().data)
            self._count += len(chunk)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self._count * self._row

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Tensor) -> Tensor:
        flat = torch.empty((len(index), self._row), dtype=torch.uint8)
        for row, place in zip(flat.numpy(), index.tolist(), strict=True):
            self._file.seek(place * self._row)
            self._file.readinto(row.data)
        rows = flat.view(self._dtype).view(len(index), *self._shape)
        return rows.contiguous(memory_format=self._layout).to(self._device)

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in order, `size` at a time."""
        for rows in torch.arange(len(self)).split(size):
            yield self[rows]


def as_tensor(images: np.ndarray, size: int) -> Tensor:
    """uint8 (B, H, W, 3) as uint8 (B, 3, size, size)."""
    return resize(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), size)


class Part:
    """Images and labels of one part of a task as a trial sees them, on the device.

    Images are uint8 (N, 3, size, size), labels int64 (N,). Where the images would fill the cache,
    they are `Streamed`.
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
        rows = np.flatnonzero(task.split == PARTS.index(part))
        rows = rows[subset(task.labels[rows], limit)]
        labels = torch.from_numpy(task.labels[rows].astype(np.int64))
        self.labels = cache.get((*self.key, "labels"), lambda: labels.to(device))
        self.images: Tensor | Streamed
        if len(rows) * size * size * 3 > cache.limit:
            self.images = Streamed(task.images, rows, size, device)
        else:
            self.images = cache.get(
                (*self.key, "images"), lambda: as_tensor(task.images[rows], size).to(device)
            )

    def __len__(self) -> int:
        return len(self.labels)

    def at_boundary(
        self, network: Network, origin: Hashable, policy: str | Augmentation, view: int
    ) -> Tensor | Spilled:
        """The output of `network`'s frozen stages for all images, (N, C, h, w).

        (N, C) where only the head is trained.

        `origin` names the trunk's weights (the seed of a random one), `view` the augmented copy.
        """
        key = (*self.key, "activations", network.name, origin, network.first, policy, view)
        kept: Tensor | Spilled = self.cache.get(key, lambda: self._compute(network, policy, view))
        return kept

    @torch.no_grad()
    def _compute(self, network: Network, policy: str | Augmentation, view: int) -> Tensor | Spilled:
        outputs = self._outputs(network, policy, view)
        first = next(outputs)
        if first.nbytes * len(self) > self.cache.limit * len(first):  # both 0 for an empty part
            return Spilled(chain([first], outputs), self.device)
        return torch.cat([first, *outputs])

    def _outputs(self, network: Network, policy: str | Augmentation, view: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(view)
        for images in self.images.split(CHUNK):
            pixels = augment(to_float(images), policy, generator)
            pixels = normalise(pixels, network.mean, network.std)
            kind = self.device.type
            with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
                output = network(pixels, stop=network.first)
            yield output
