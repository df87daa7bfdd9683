"""What labelled images are read from: everything but the pixels is known before one is decoded."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from foretune.errors import BadInput
from foretune.tasks.pixels import Crop, Pixels, decode_measured
from foretune.tasks.split import MIN_PER_CLASS, TRAIN, UNKNOWN


class Source(Protocol):
    """N labelled images that are not decoded yet."""

    @property
    def name(self) -> str:
        """The task's name."""

    @property
    def where(self) -> str:
        """What errors call it."""

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)"""

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names."""

    @property
    def parts(self) -> np.ndarray:
        """The given split, uint8 (N,), `UNKNOWN` everywhere where there is none."""

    @property
    def groups(self) -> tuple[str, ...] | None:
        """N names: images of one group stay in one part."""

    @property
    def source(self) -> str:
        """The dataset's name."""

    @property
    def licence(self) -> str:
        """Of the images."""

    def identity(self) -> str:
        """A digest that changes where an image does, without reading any."""

    def pixels(self, row: int, size: int, crop: Crop) -> tuple[Pixels, int]:
        """One image, uint8 (size, size, 3), and its own shorter side. Raises `BadInput`. Called
        from several threads.
        """


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files with their labels; `root` is what their names are relative to."""

    name: str
    root: Path
    where: str
    files: tuple[Path, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    parts: np.ndarray
    groups: tuple[str, ...] | None = None
    licence: str = ""
    _known: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def source(self) -> str:
        """The dataset's name: the task's."""
        return self.name

    def identity(self) -> str:
        """A digest of the files' names, sizes and times of change."""
        if "identity" not in self._known:
            facts: list[tuple[str | int, ...]] = []
            for file in self.files:
                try:
                    stat = file.stat()
                except OSError:  # told with the images that cannot be read
                    facts.append((self._relative(file),))
                else:
                    facts.append((self._relative(file), stat.st_size, stat.st_mtime_ns))
            digest = hashlib.sha256(json.dumps(facts).encode())
            self._known["identity"] = digest.hexdigest()
        return self._known["identity"]

    def pixels(self, row: int, size: int, crop: Crop) -> tuple[Pixels, int]:
        """One image. Raises `BadInput` that names its file."""
        return decode_measured(self.files[row], size, "", crop)

    def _relative(self, file: Path) -> str:
        return (file.relative_to(self.root) if file.is_relative_to(self.root) else file).as_posix()


def refuse_small_classes(source: Source, readable: np.ndarray, told: str = "") -> None:
    """Raise `BadInput` for a class with too few images among the `readable` ones (mask (N,)):
    `MIN_PER_CLASS` where a split has to be made, one training image where it is given. `told` says
    why images are missing.
    """
    given = bool((source.parts != UNKNOWN).any())
    counted = readable & (source.parts == TRAIN) if given else readable
    least, kind = (1, "training images") if given else (MIN_PER_CLASS, "images")
    needed = f"at least {least} {'is' if given else 'are'} needed"
    needed += "" if given else " (train, valid, test)"
    counts = np.bincount(source.labels[counted], minlength=len(source.class_names))
    for name, count in zip(source.class_names, counts.tolist(), strict=True):
        if count < least:
            many = kind.removesuffix("s") if count == 1 else kind
            raise BadInput(
                f"{source.where}/{name}: class with {count} {many}"
                f"{' that can be read' if told else ''}, {needed}{f': {told}' if told else ''}"
            )
