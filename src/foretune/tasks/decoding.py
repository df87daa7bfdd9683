"""Decoding a source's images, in threads, into memory or into a file that outlasts a kill.

Pillow lets other threads run while it decodes and scales, so threads are enough; each image is
hashed where it was decoded, so that the split needs no second look at the pixels.

The file's folder, `DATA/cache/images/KEY`, holds

| file         | content                                                                           |
|--------------|-----------------------------------------------------------------------------------|
| `images.npy` | uint8 (N, H, W, 3), of its full length from the start                             |
| `rows.bin`   | a record of each image that is done, in order: its key and its own shorter side   |
| `bad.jsonl`  | a line of each image that cannot be read: row, and what is wrong with it          |

Records are appended after the pixels that they speak of have reached the disk. So whatever stands
in `rows.bin` is true, and what is missing there is decoded when the folder is opened again.
"""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock

from foretune import files
from foretune.errors import BadInput
from foretune.tasks.pixels import CROPS, Pixels
from foretune.tasks.sources import Source
from foretune.tasks.split import content_keys
from foretune.tasks.stored_images import StoredImages

CHUNK = 512  # images between two records on disk
TOGETHER = 8  # images that a thread decodes without waiting for another to take note of them
RECORD = np.dtype([("key", "V32"), ("side", "<u4")])
Progress = Callable[[int, int], None]


@dataclass
class Decoded:
    """All images of a source: pixels (of a bad one: zeros), content keys, shorter sides in pixels,
    and what is wrong with the bad ones, by row.
    """

    images: np.ndarray | StoredImages
    keys: list[str]
    sides: np.ndarray
    bad: dict[int, str]


class Place(Protocol):
    """Where pixels go."""

    done: int
    records: np.ndarray
    bad: dict[int, str]

    def write(self, row: int, pixels: Pixels) -> None:
        """Put one image; called from several threads."""

    def commit(self, stop: int) -> None:
        """All rows before `stop` are written, and stand in `records` or `bad`."""

    def images(self) -> np.ndarray | StoredImages:
        """All of them, at the end."""


@dataclass
class Memory:
    """Pixels in an array."""

    count: int
    size: int
    done: int = 0
    bad: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = np.zeros(self.count, RECORD)
        self._pixels = np.zeros((self.count, self.size, self.size, 3), dtype=np.uint8)

    def write(self, row: int, pixels: Pixels) -> None:
        """Put one image."""
        self._pixels[row] = pixels

    def commit(self, stop: int) -> None:
        """Nothing is to be kept."""
        self.done = stop

    def images(self) -> np.ndarray:
        """The array."""
        return self._pixels


class Folder:
    """Pixels in a file of `folder`, with what an earlier process left there.

    Raises:
        BadInput: the disk has not enough room.
    """

    def __init__(self, folder: Path, count: int, size: int):
        self.path, self._folder = folder / "images.npy", folder
        self._image = size * size * 3
        shape = (count, size, size, 3)
        if not self.path.exists():
            need, free = count * self._image, shutil.disk_usage(folder).free
            if need > free:
                raise BadInput(
                    f"{folder}: {count:,} images at {size} px need {need / 2**30:.1f} GiB of disk, "
                    f"and {free / 2**30:.1f} GiB are free; make room, give another data folder "
                    "(--data), or allow more memory (--memory)"
                )
            with files.replace(self.path) as temporary, open(temporary, "wb") as stream:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                stream.truncate(stream.tell() + need)
        stored = StoredImages(self.path)
        if stored.shape != shape:
            raise BadInput(f"{self.path}: holds {stored.shape}, not {shape}; delete {folder}")
        self._start = self.path.stat().st_size - stored.nbytes
        self.records = np.zeros(count, RECORD)
        kept = self._rows().read_bytes() if self._rows().exists() else b""
        self.done = min(len(kept) // RECORD.itemsize, count)
        whole = kept[: self.done * RECORD.itemsize]
        self.records[: self.done] = np.frombuffer(whole, RECORD)
        if len(whole) < len(kept):  # a record that a kill has torn
            os.truncate(self._rows(), len(whole))
        self.bad = {row: told for row, told in self._told() if row < self.done}
        self._pixels: int | None = None

    def _rows(self) -> Path:
        return self._folder / "rows.bin"

    def _told(self) -> list[tuple[int, str]]:
        file = self._folder / "bad.jsonl"
        if not file.exists():
            return []
        found = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                found.append((int((entry := json.loads(line))["row"]), str(entry["told"])))
            except (ValueError, KeyError):
                continue  # torn: its row is no record yet
        return found

    def write(self, row: int, pixels: Pixels) -> None:
        """Put one image."""
        with open(self.path, "r+b") as stream:
            stream.seek(self._start + row * self._image)
            stream.write(np.ascontiguousarray(pixels).data)

    def commit(self, stop: int) -> None:
        """Record the rows up to `stop`, after their pixels."""
        with open(self.path, "r+b") as stream:
            os.fsync(stream.fileno())
        lines = [
            json.dumps({"row": row, "told": self.bad[row]})
            for row in range(self.done, stop)
            if row in self.bad
        ]
        if lines:
            files.append_lines(self._folder / "bad.jsonl", lines)
        with open(self._rows(), "ab") as stream:
            stream.write(self.records[self.done : stop].tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        self.done = stop

    def images(self) -> StoredImages:
        """The file."""
        return StoredImages(self.path)


def decode_all(
    source: Source,
    size: int,
    crop: str,
    *,
    folder: Path | None,
    workers: int,
    progress: Progress | None = None,
) -> Decoded:
    """Decode the images of a source: into `folder`, where one is given, but those that it holds
    already. `progress(done, total)` is called after each image.

    A second process that wants the same folder waits for the first, and decodes nothing.

    Raises:
        BadInput: the disk has not enough room, or fails.
    """
    count = len(source.labels)
    if folder is None:
        return _fill(Memory(count, size), source, size, crop, workers, progress)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            place = Folder(folder, count, size)
            return _fill(place, source, size, crop, workers, progress)
    except OSError as error:
        raise BadInput(f"{folder}: decoded images cannot be kept there: {error}") from error


def _fill(
    place: Place, source: Source, size: int, crop: str, workers: int, progress: Progress | None
) -> Decoded:
    count, cut = len(source.labels), CROPS[crop]

    def decode(row: int) -> tuple[bytes, int, str]:
        try:
            pixels, side = source.pixels(row, size, cut)
        except BadInput as error:
            return b"", 0, str(error)
        place.write(row, pixels)
        return bytes.fromhex(content_keys([pixels])[0]), side, ""

    def together(rows: range) -> list[tuple[bytes, int, str]]:
        return [decode(row) for row in rows]

    with ThreadPoolExecutor(max_workers=workers) as pool:
        while (start := place.done) < count:
            rows = range(start, min(start + CHUNK, count))
            parts = [rows[k : k + TOGETHER] for k in range(0, len(rows), TOGETHER)]
            for row, (key, side, told) in zip(
                rows, chain.from_iterable(pool.map(together, parts)), strict=True
            ):
                if told:
                    place.bad[row] = told
                else:
                    place.records[row] = (key, side)
                if progress is not None:
                    progress(row + 1, count)
            place.commit(rows.stop)
    keys = [bytes(key).hex() for key in place.records["key"]]
    return Decoded(place.images(), keys, place.records["side"].astype(np.int64), place.bad)
