"""Image tasks: labelled images with a fixed split.

Shapes: N images, C classes, H = W pixels. `images` is uint8 (N, H, W, 3), `labels` int64 (N,),
`split` uint8 (N,).
"""

import hashlib
import math
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from foretune import files
from foretune.errors import BadInput
from foretune.tasks.pixels import check_size, square
from foretune.tasks.split import PARTS, split_by_content
from foretune.tasks.stored_images import StoredImages

Images = np.ndarray | StoredImages


@dataclass(frozen=True, eq=False)
class Task:
    """A named image-classification dataset with a fixed split (0 train, 1 valid, 2 test).

    `source` names the dataset that it was cut from: tasks of one source stay on one side in
    leave-one-source-out comparisons. `crop` is how its pictures became square
    (`foretune.tasks.pixels`), and `origin` a digest of the files that it was read from and how,
    empty where that is unknown: while both are the same, nothing needs to be read again.

    The images of a task that is too large for memory are `StoredImages`.

    Raises:
        BadInput: the arrays do not fit together, or a class is empty.
    """

    name: str
    images: Images  # uint8 (N, H, W, 3)
    labels: np.ndarray  # int64 (N,)
    class_names: tuple[str, ...]
    split: np.ndarray  # uint8 (N,)
    source: str = ""
    licence: str = ""
    crop: str = "center"
    origin: str = ""

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
        for array in chain(self._chunks(), (self.labels.astype("<i8"), self.split)):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _chunks(self) -> Iterator[np.ndarray]:
        if isinstance(self.images, StoredImages):
            yield from self.images.chunks()
        else:
            yield self.images

    def part(self, name: str) -> tuple[Images, np.ndarray]:
        """Images and labels of "train", "valid" or "test"; stored images stay in their file."""
        if name not in PARTS:
            raise BadInput(f"part {name!r} must be one of {', '.join(PARTS)}")
        rows = self.split == PARTS.index(name)
        if isinstance(self.images, StoredImages):
            return self.images.select(rows), self.labels[rows]
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

        The same task and comment give the same bytes (entries carry a fixed date). Stored images go
        into a file of their own beside it, named after their content: a hard link where that can
        be, so that no pixel is written twice.
        """
        text = {
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "class_names": self.class_names,
        }
        # what is as everywhere is not written, so that a prepared task has the bytes it always had
        text |= {"crop": self.crop} if self.crop != "center" else {}
        text |= {"origin": self.origin} if self.origin else {}
        arrays: dict[str, np.ndarray] = {}
        if isinstance(self.images, StoredImages):
            file = self._beside(Path(path))
            text |= {"images_file": file.name, "hash": self.hash}
            arrays["images_rows"] = self.images.rows
            _place(self.images.path, file)
        else:
            arrays["images"] = self.images
        arrays |= {
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

    def _beside(self, path: Path) -> Path:
        """Where the stored images of a task that is saved at `path` lie."""
        return path.with_name(f"images-{self.hash[:16]}.npy")

    @classmethod
    def load(cls, path: Path | str) -> "Task":
        """Read what `save` wrote.

        A file with `images`, `labels` and `class_names` only gets a split.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as stored:
                beside = "images_file" in stored.files
                needed = {"images_rows" if beside else "images", "labels", "class_names"}
                missing = needed - set(stored.files)
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
            for key, default in (
                ("name", path.stem),
                ("source", path.stem),
                ("licence", ""),
                ("crop", "center"),
                ("origin", ""),
            )
        }
        labels = arrays["labels"].astype(np.int64)
        images: Images
        if beside:
            images = StoredImages(_neighbour(path, str(arrays["images_file"])))
            images = images.select(arrays["images_rows"])
        else:
            images = arrays["images"]
        names = tuple(str(name) for name in arrays["class_names"])
        if "split" in arrays:
            split = arrays["split"].astype(np.uint8)
        else:
            split = split_by_content(images, labels, names)
        task = cls(images=images, labels=labels, class_names=names, split=split, **text)
        if beside:
            # gigabytes, which every process of a study would read once more to say the same
            task.__dict__["hash"] = str(arrays["hash"])
        return task


def images_beside(path: Path | str) -> Path | None:
    """The file of stored images that the task saved in `path` has beside it; None where its images
    are in `path` itself. Raises `BadInput` for a file that is no task.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            name = str(stored["images_file"]) if "images_file" in stored.files else None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: cannot be read as an image task (.npz): {error}") from error
    return None if name is None else _neighbour(path, name)


def _neighbour(path: Path, name: str) -> Path:
    """The file of stored images that the task in `path` names: only a neighbour can be meant."""
    if name != Path(name).name:
        raise BadInput(f"{path}: names {name!r} for its images, which is no file beside it")
    return path.with_name(name)


def check_array(archive: zipfile.ZipFile, name: str, where: str) -> None:
    """Raise `BadInput` for an array of an .npz whose header claims more than the file holds: memory
    for it is taken before its content is read.
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


def _place(source: Path, target: Path) -> None:
    """Have `source` at `target` too, as a hard link, or as a copy where none can be made."""
    if target.exists():  # named after its content
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with files.replace(target) as temporary:
            shutil.copyfile(source, temporary)
