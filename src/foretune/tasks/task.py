"""Image tasks: labelled images with a fixed split.

Shapes: N images, C classes, H = W pixels. `images` is uint8 (N, H, W, 3), `labels` int64 (N,),
`split` uint8 (N,).
"""

import hashlib
import math
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from foretune import files
from foretune.errors import BadInput
from foretune.tasks.pixels import check_size, square

PARTS = ("train", "valid", "test")


SHARES = (0.6, 0.2, 0.2)


MIN_PER_CLASS = 3  # one image for each part


MAX_BYTES = 4 * 2**30  # of decoded pixels: a task is held in memory as one array


@dataclass(frozen=True, eq=False)
class Task:
    """A named image-classification dataset with a fixed split (0 train, 1 valid, 2 test).

    `source` names the dataset that it was cut from: tasks of one source stay on one side in
    leave-one-source-out comparisons.

    Raises:
        BadInput: the arrays do not fit together, or a class is empty.
    """

    name: str
    images: np.ndarray  # uint8 (N, H, W, 3)
    labels: np.ndarray  # int64 (N,)
    class_names: tuple[str, ...]
    split: np.ndarray  # uint8 (N,)
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        n, classes = len(self.labels), len(self.class_names)
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
            raise BadInput(
                f"{self.name}: images must be uint8 (N, H, W, 3), but are {self.images.dtype} "
                f"{self.images.shape}"
            )
        if not len(self.images) == n == len(self.split):
            raise BadInput(
                f"{self.name}: {len(self.images)} images, {n} labels, {len(self.split)} split "
                "entries must be as many"
            )
        if classes < 2:
            raise BadInput(
                f"{self.name}: has {classes} class, a classification task needs at least 2"
            )
        counts = np.zeros(0, dtype=np.int64)
        if n and self.labels.min() >= 0:
            counts = np.bincount(self.labels, minlength=classes)
        if len(counts) != classes or (counts == 0).any():
            raise BadInput(
                f"{self.name}: labels must be 0 to {classes - 1} with every class present"
            )

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) over images, labels, class names and split.

        Name, source and licence do not count.
        """
        digest = hashlib.sha256(f"{self.images.shape} {list(self.class_names)}".encode())
        for array in (self.images, self.labels.astype("<i8"), self.split):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of "train", "valid" or "test"."""
        if name not in PARTS:
            raise BadInput(f"part {name!r} must be one of {', '.join(PARTS)}")
        rows = self.split == PARTS.index(name)
        return self.images[rows], self.labels[rows]

    def resized(self, size: int) -> "Task":
        """The same task at another edge length; the split stays, the hash changes."""
        check_size(size)
        if self.images.shape[1:3] == (size, size):
            return self
        scaled = [square(Image.fromarray(image), size) for image in self.images]
        return replace(self, images=np.stack(scaled))

    def save(self, path: Path | str, comment: str = "") -> None:
        """Write an .npz by rename.

        The same task and comment give the same bytes (entries carry a fixed date).
        """
        text = {
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "class_names": self.class_names,
        }
        arrays = {
            "images": self.images,
            "labels": self.labels.astype(np.int64),
            "split": self.split.astype(np.uint8),
        }
        arrays |= {key: np.array(value, dtype=np.str_) for key, value in text.items()}
        with files.replace(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.comment = comment.encode()
            for key, array in arrays.items():
                entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)

    @classmethod
    def load(cls, path: Path | str) -> "Task":
        """Read what `save` wrote.

        A file with `images`, `labels` and `class_names` only gets a split.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as stored:
                missing = {"images", "labels", "class_names"} - set(stored.files)
                if missing:
                    raise BadInput(
                        f"{path}: is no image task, it lacks {', '.join(sorted(missing))}"
                    )
                for name in stored.zip.namelist():
                    if name.endswith(".npy"):
                        check_array(stored.zip, name, str(path))
                arrays = {key: stored[key] for key in stored.files}
        except BadInput:
            raise
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, TypeError, AttributeError) as e:
            raise BadInput(f"{path}: cannot be read as an image task (.npz): {e}") from e
        text = {
            key: str(arrays.get(key, default))
            for key, default in (("name", path.stem), ("source", path.stem), ("licence", ""))
        }
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
        names = tuple(str(name) for name in arrays["class_names"])
        if "split" in arrays:
            split = arrays["split"].astype(np.uint8)
        else:
            split = split_by_content(images, labels, names)
        return cls(images=images, labels=labels, class_names=names, split=split, **text)


def split_by_content(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    shares: Sequence[float] = SHARES,
) -> np.ndarray:
    """Fixed stratified split (60/20/20 by default), uint8 (N,), by the pixels alone.

    Neither file names nor order change it.

    Images with equal pixels, and images of one group (one patient, one font), fall in the same
    part, so that nothing leaks. Units are dealt out in the order of their SHA-256, largest first,
    each to the part that lacks most of its classes.

    Raises:
        BadInput: a class that cannot be in every part that has a share.
    """
    keys = [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images]
    units = _units(keys, groups)
    totals = np.bincount(labels)
    # (3, C); a part without a share lacks nothing
    target = np.maximum(np.array(shares)[:, None] * totals, 1e-9)
    have = np.zeros_like(target)
    split = np.zeros(len(labels), dtype=np.uint8)
    for rows in sorted(units, key=lambda rows: (-len(rows), min(keys[row] for row in rows))):
        classes, counts = np.unique(labels[rows], return_counts=True)
        lack = ((target - have)[:, classes] / target[:, classes]) @ counts
        part = int(np.argmax(np.where(np.array(shares) > 0, lack, -np.inf)))
        have[part, classes] += counts
        split[rows] = part
    short = np.flatnonzero((have[np.array(shares) > 0] == 0).any(axis=0) & (totals > 0))
    if len(short):
        name = class_names[short[0]] if class_names is not None else str(short[0])
        raise BadInput(
            f"class {name!r}: its {totals[short[0]]} images are too few or too alike to be in "
            f"{' and '.join(part for part, share in zip(PARTS, shares, strict=True) if share)} "
            f"(at least {MIN_PER_CLASS} different ones are needed)"
        )
    return split


def _units(keys: Sequence[str], groups: Sequence[str] | None) -> list[list[int]]:
    """Rows that share a key or a group, directly or through others."""
    root: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        while root.setdefault(node, node) != node:
            node = root[node] = root[root[node]]
        return node

    nodes = [("key", key) for key in keys]
    for node, group in zip(nodes, groups if groups is not None else (), strict=False):
        root[find(node)] = find(("group", group))
    units: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, node in enumerate(nodes):
        units[find(node)].append(row)
    return list(units.values())


def check_array(archive: zipfile.ZipFile, name: str, where: str) -> None:
    """Raise `BadInput` for an array of an .npz that would not fit the limit for one task, or whose
    header claims more than the file holds: memory for it is taken before its content is read.
    """
    held = archive.getinfo(name).file_size
    with archive.open(name) as stream:
        major, _ = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        shape, _, kind = (np.lib.format.read_array_header_2_0 if major > 1 else read)(stream)
    claimed = math.prod(shape) * kind.itemsize
    if claimed > held:
        raise BadInput(
            f"{where}: {name} claims {claimed:,} bytes and holds {held:,}: it is damaged"
        )
    if claimed > MAX_BYTES:
        raise BadInput(
            f"{where}: {name} has {claimed:,} bytes; the limit for one task is {MAX_BYTES:,}"
        )


def check_memory(count: int, size: int, where: str) -> None:
    """Raise `BadInput` where `count` images of this size would not fit the limit for one task."""
    if count * size * size * 3 > MAX_BYTES:
        most = MAX_BYTES // (size * size * 3)
        raise BadInput(
            f"{where}: {count:,} images at {size} px need more than {MAX_BYTES // 2**30} GiB; "
            f"at this size the limit is {most:,}"
        )
