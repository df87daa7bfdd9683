"""Images that lie in a file and are read from it where they are needed."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput

CHUNK = 8 * 2**20  # bytes that are read at once where all images are wanted


class StoredImages:
    """uint8 (N, H, W, 3) in a .npy file: indexed like an array, and what is asked for is read.

    An index gives an array of its own, `select` the same images without reading one. No page of the
    file is mapped: mapped pages count as a process's memory until the system takes them away, while
    what is read here lies in the system's cache, which all processes share. Can be sent to another
    process of this machine.

    Raises:
        BadInput: the file is no such array, or is shorter than its header says.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, path: Path | str, rows: np.ndarray | None = None):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as stream:
                version = np.lib.format.read_magic(stream)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = read(stream)
                self._start = stream.tell()
                size = stream.seek(0, 2) - self._start
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.path}: cannot be read as stored images: {error}") from error
        if len(shape) != 4 or shape[3] != 3 or dtype != self.dtype or fortran:
            raise BadInput(
                f"{self.path}: stored images must be uint8 (N, H, W, 3), but are {dtype} {shape}"
            )
        if size < np.prod(shape, dtype=np.int64):
            raise BadInput(f"{self.path}: is cut short: it holds {size:,} bytes of {shape}")
        self._image = tuple(int(side) for side in shape[1:])
        self.rows = np.arange(shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)"""
        return (len(self.rows), *self._image)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, index: Any) -> "StoredImages":
        """The images at an index, a slice or a mask, still in the file."""
        return StoredImages(self.path, self.rows[index])

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self.rows[index]
        if np.ndim(rows) == 0:
            return self._read(np.array([rows]))[0]
        return self._read(np.ravel(rows)).reshape(*np.shape(rows), *self._image)

    def __iter__(self) -> Iterator[np.ndarray]:
        for chunk in self.chunks():
            yield from chunk

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def chunks(self, size: int | None = None) -> Iterator[np.ndarray]:
        """All images, `size` at a time (default: 8 MiB)."""
        size = size or max(1, CHUNK // int(np.prod(self._image)))
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *self._image), dtype=np.uint8)
        size = int(np.prod(self._image))
        # neighbours in the file are read in one go
        ends = [*np.flatnonzero(np.diff(rows) != 1) + 1, len(rows)] if len(rows) else []
        with open(self.path, "rb", buffering=0) as stream:
            for begin, end in pairwise((0, *ends)):
                stream.seek(self._start + int(rows[begin]) * size)
                waiting = out[begin:end].data.cast("B")
                while waiting:
                    got = stream.readinto(waiting)
                    if not got:
                        raise BadInput(f"{self.path}: is cut short")
                    waiting = waiting[got:]
        return out
