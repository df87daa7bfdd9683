"""From a source to a task: what is decoded, at which size, and where the pixels are kept."""

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from foretune.errors import BadInput, plural
from foretune.tasks.decoding import Progress, decode_all
from foretune.tasks.pixels import HEIF_SUFFIXES, check_crop, check_size, register_heif
from foretune.tasks.sources import ImageFiles, Source, refuse_small_classes
from foretune.tasks.split import complete_split
from foretune.tasks.task import Task

VERSION = 1  # of how files become pixels: another one reads all files again
MOST_WORKERS = 16
SHARE = 1 / 4  # of the free memory that a task may fill
CGROUP = Path("/sys/fs/cgroup")  # of a container
PROCESSES = 3  # that hold a task in that share: a study's own and two workers


@dataclass(frozen=True)
class Reading:
    """How a source is read.

    `memory` is how many GiB of pixels a process may hold (default: a quarter of what is free, less
    where more than three `processes` hold them); of what is larger, the pixels are kept in a file.

    Raises:
        BadInput: a size, a crop or a limit that cannot be meant.
    """

    size: int = 64
    crop: str = "center"
    skip_bad: bool = False
    memory: float | None = None
    processes: int = PROCESSES

    def __post_init__(self) -> None:
        check_size(self.size)
        check_crop(self.crop)
        if self.memory is not None and not self.memory >= 0:
            raise BadInput(f"memory={self.memory:g} must be 0 GiB or more")

    def budget(self) -> int:
        """Bytes of pixels that a process may hold."""
        if self.memory is not None:
            return int(self.memory * 2**30)
        return int(free_memory() * SHARE * min(1.0, PROCESSES / self.processes))


def free_memory() -> int:
    """Bytes that can be had without swapping: what the system has, and a container's limit allows."""
    free = int(psutil.virtual_memory().available)
    try:
        most = int((CGROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((CGROUP / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return min(free, max(0, most - used))


def pixels_key(source: Source, how: Reading) -> str:
    """A digest of the files and of what decides their pixels."""
    facts = [VERSION, source.identity(), how.size, how.crop]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def origin(source: Source, how: Reading) -> str:
    """A digest of the same and of the labels, the given split and the groups (`Task.origin`)."""
    digest = hashlib.sha256(pixels_key(source, how).encode())
    digest.update(json.dumps([source.class_names, source.groups]).encode())
    digest.update(source.labels.astype("<i8").tobytes() + source.parts.tobytes())
    return digest.hexdigest()


def read(source: Source, how: Reading, data: Path | str, progress: Progress | None = None) -> Task:
    """Decode a source's images; `progress(done, total)` is called after each.

    Warns of images that were left out (`how.skip_bad`), that are smaller than the size, and of
    parts that were drawn from the training part.

    Raises:
        BadInput: classes with too few images; of images that cannot be read, all of them.
    """
    count = len(source.labels)
    refuse_small_classes(source, np.ones(count, dtype=bool))
    if not how.skip_bad:
        _need_decoders(source)
    folder = None
    if count * how.size**2 * 3 > how.budget():
        folder = Path(data) / "cache" / "images" / pixels_key(source, how)[:32]
    found = decode_all(
        source, how.size, how.crop, folder=folder, workers=processors(), progress=progress
    )
    images, labels, parts = found.images, source.labels, source.parts
    keys, groups = found.keys, source.groups
    if found.bad:
        rows = np.setdiff1d(np.arange(count), list(found.bad))
        _leave_out(source, how, found.bad, rows)
        images = images[rows] if isinstance(images, np.ndarray) else images.select(rows)
        labels, parts = labels[rows], parts[rows]
        keys = [keys[row] for row in rows]
        groups = None if groups is None else tuple(groups[row] for row in rows)
    if line := _enlarged(found.sides[found.sides > 0], how.size):
        warnings.warn(line, stacklevel=2)
    split, lines = complete_split(parts, keys, labels, source.class_names, groups)
    for line in lines:
        warnings.warn(f"{source.where}: {line}", stacklevel=2)
    return Task(
        source.name,
        images,
        labels,
        source.class_names,
        split,
        source=source.source,
        licence=source.licence,
        crop=how.crop,
        origin=origin(source, how),
    )


def processors() -> int:
    """Threads that decode."""
    usable = getattr(os, "sched_getaffinity", None)
    return min(MOST_WORKERS, len(usable(0)) if usable else os.cpu_count() or 1)


def _need_decoders(source: Source) -> None:
    """Refuse a HEIC file now where the package that reads them is missing, not after thousands of
    other images.
    """
    if isinstance(source, ImageFiles):
        for file in source.files:
            if file.suffix.lower() in HEIF_SUFFIXES:
                register_heif(str(file))
                return


def _leave_out(source: Source, how: Reading, bad: dict[int, str], rows: np.ndarray) -> None:
    """Say which images cannot be read, or refuse the source for them."""
    count = len(source.labels)
    told = "; ".join(bad[row] for row in sorted(bad))
    many = f"{len(bad)} of {count} images cannot be used: " if len(bad) > 1 else ""
    if not how.skip_bad:
        raise BadInput(f"{many}{told} (--skip-bad leaves such images out)")
    warnings.warn(f"left out {len(bad)} of {count} images: {told}", stacklevel=3)
    readable = np.zeros(count, dtype=bool)
    readable[rows] = True
    refuse_small_classes(source, readable, told)


def _enlarged(sides: np.ndarray, size: int) -> str:
    """A line of the images that are smaller than they are asked for, or nothing."""
    small = int((sides < size).sum())
    if not small:
        return ""
    return (
        f"{small:,} of {len(sides):,} {plural('image', len(sides))} "
        f"{'is' if small == 1 else 'are'} smaller than {size} px (the smallest {sides.min()} px) "
        "and scaled up: detail that they do not have cannot be learned"
    )
