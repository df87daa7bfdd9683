"""torchvision's datasets as tasks: `torchvision:NAME` or `torchvision:NAME:PER_CLASS`.

The dataset's own parts are kept where it has them: its test part (or, where that is not public, its
validation part) is `test`, its validation part `valid`. What is missing is cut off the rest, by
content: a quarter of what would be `train` becomes `valid`; a dataset without parts is split
60/20/20. `PER_CLASS` takes a fixed number of images of each class of each part, evenly spaced, of
datasets that are larger than a study needs (Places365 has 1.8 million images).
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.tasks.pixels import Crop, Pixels, to_rgb
from foretune.tasks.split import TEST, TRAIN, UNKNOWN, VALID

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """Constructor options of each official part, by our part."""

    options: Mapping[int, Options]
    common: Options = field(default_factory=dict)


def _split(
    train: str = "train", valid: str | None = None, test: str | None = "test", **common: Any
) -> Parts:
    named = {TRAIN: train, VALID: valid, TEST: test}
    return Parts(
        {part: {"split": name} for part, name in named.items() if name is not None}, common
    )


_TRAIN_FLAG = Parts({TRAIN: {"train": True}, TEST: {"train": False}})
_WHOLE = Parts({TRAIN: {}})
_THREE = _split(valid="val")

DATASETS: dict[str, Parts] = {
    "Caltech101": _WHOLE,
    "Caltech256": _WHOLE,
    "CIFAR10": _TRAIN_FLAG,
    "CIFAR100": _TRAIN_FLAG,
    "Country211": _split(valid="valid"),
    "DTD": _THREE,
    "EMNIST": Parts(_TRAIN_FLAG.options, {"split": "letters"}),
    "EuroSAT": _WHOLE,
    "FashionMNIST": _TRAIN_FLAG,
    "FGVCAircraft": _THREE,
    "Flowers102": _THREE,
    "Food101": _split(),
    "GTSRB": _split(),
    "Imagenette": _split(test="val", size="160px"),
    "KMNIST": _TRAIN_FLAG,
    "MNIST": _TRAIN_FLAG,
    "OxfordIIITPet": _split(train="trainval"),
    "PCAM": _THREE,
    "Places365": _split(train="train-standard", test="val", small=True),
    "StanfordCars": _split(),
    "STL10": _split(),
    "SUN397": _WHOLE,
    "SVHN": _split(),
    "USPS": _TRAIN_FLAG,
}


@dataclass(frozen=True, eq=False)
class TorchvisionImages:
    """Chosen images of a torchvision dataset: `at` names part and row of each."""

    name: str
    where: str
    datasets: Mapping[int, Any]
    at: tuple[tuple[int, int], ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    parts: np.ndarray
    groups: None = None
    licence: str = "see the dataset's authors"

    @property
    def source(self) -> str:
        """The dataset's name: the task's."""
        return self.name

    def identity(self) -> str:
        """A digest of which images these are: the datasets themselves never change."""
        return hashlib.sha256(f"{self.where} {self.at}".encode()).hexdigest()

    def pixels(self, row: int, size: int, crop: Crop) -> tuple[Pixels, int]:
        """One image."""
        part, place = self.at[row]
        try:
            image = self.datasets[part][place][0]
            return crop(to_rgb(image), size), min(image.size)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{self.where}: image {place} cannot be read as an image ({error})"
            ) from error


def list_torchvision(spec: str, root: Path) -> TorchvisionImages:
    """The images of `NAME[:PER_CLASS]`, downloaded into `root` where they are not there yet.

    Raises:
        BadInput: no such dataset, or no network.
    """
    name, _, count = spec.partition(":")
    if name not in DATASETS:
        raise BadInput(
            f"torchvision:{name}: is not one of the classification datasets read here: "
            f"{', '.join(DATASETS)}"
        )
    if count and not (count.isdigit() and int(count) >= 3):
        raise BadInput(
            f"torchvision:{spec}: {count!r} must be a number of images per class, at least 3"
        )
    datasets = {
        part: _open(name, root, {**DATASETS[name].common, **options})
        for part, options in DATASETS[name].options.items()
    }
    targets = {part: _targets(dataset) for part, dataset in datasets.items()}
    rows = {part: _rows(found, int(count) if count else None) for part, found in targets.items()}
    labels, class_names = _names(
        np.concatenate([targets[part][rows[part]] for part in datasets]), datasets[TRAIN]
    )
    parts = np.repeat(list(rows), [len(found) for found in rows.values()]).astype(np.uint8)
    if TEST not in rows:  # its validation part alone would be a poor judge: split anew
        parts[:] = UNKNOWN
    return TorchvisionImages(
        name,
        f"torchvision:{spec}",
        datasets,
        tuple((part, int(row)) for part in rows for row in rows[part]),
        labels,
        class_names,
        parts,
    )


def _open(name: str, root: Path, options: Options) -> Any:
    """The torchvision dataset from disk, else downloaded."""
    import torchvision.datasets

    make = getattr(torchvision.datasets, name)
    try:
        return make(str(root), download=False, **options)
    # not there yet, or a dataset whose option is its own
    except (OSError, RuntimeError, ValueError, TypeError):
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        return make(str(root), download=True, **options)
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"torchvision:{name}: is not in {root} and cannot be downloaded here "
            f"({_brief(error)}). "
            f"Run this once where there is a network, or put the dataset's files into {root}, "
            f"laid out as torchvision.datasets.{name} expects them"
        ) from error


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _targets(dataset: Any) -> np.ndarray:
    """Labels of all images without decoding one; torchvision keeps them under several names."""
    for attribute in ("targets", "_labels", "labels", "y", "_targets"):
        if (found := getattr(dataset, attribute, None)) is not None:
            return np.asarray(found).astype(np.int64)
    for attribute in ("samples", "_samples"):
        if (found := getattr(dataset, attribute, None)) is not None:
            return np.array([label for _, label in found], dtype=np.int64)
    return np.array([int(dataset[row][1]) for row in range(len(dataset))], dtype=np.int64)


def _rows(targets: np.ndarray, per_class: int | None) -> np.ndarray:
    """Which images of a part are taken, sorted."""
    usable = np.flatnonzero(targets >= 0)  # STL10 marks unlabelled images with -1
    if per_class is None:
        return usable
    taken = []
    for label in np.unique(targets[usable]):
        rows = np.flatnonzero(targets == label)
        taken.append(
            rows[np.linspace(0, len(rows) - 1, min(per_class, len(rows))).round().astype(int)]
        )
    return np.sort(np.concatenate(taken))


def _names(labels: np.ndarray, dataset: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels 0 to C - 1 without gaps, and the classes' names where the dataset knows them."""
    present, dense = np.unique(labels, return_inverse=True)
    known: Sequence[Any] = (
        getattr(dataset, "classes", None) or getattr(dataset, "categories", None) or ()
    )
    return dense.astype(np.int64), tuple(
        str(known[label]) if label < len(known) else str(label) for label in present
    )
