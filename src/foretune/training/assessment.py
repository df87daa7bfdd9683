"""How well a classifier does on labelled images, and how sure that is.

N images, C classes: `labels` int64 (N,), `probabilities` float32 (N, C). Standard errors are those
of the images alone, had others of the same kind been drawn:

| metric                                         | standard error                                |
|------------------------------------------------|-----------------------------------------------|
| accuracy, top5                                 | binomial: sqrt(p (1 - p) / N)                 |
| log_loss                                       | of a mean: s / sqrt(N)                        |
| balanced_accuracy, macro_f1, auroc, kappa      | bootstrap (Efron, 1979) of `RESAMPLES` draws  |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from foretune.errors import BadInput
from foretune.files import replace
from foretune.training.metrics import GOALS, class_metrics, confusion

RESAMPLES = 200
FEWEST = 25  # resamples of a part that is so large that each takes seconds
CELLS = 2e7  # N C resamples beyond which there are fewer
SMALLEST = 1e-12  # a probability, where its logarithm is taken


@dataclass(frozen=True)
class Measured:
    """A value and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class ClassScore:
    """One class: how many of the images taken for it are of it (precision), how many of it are
    found (recall), their harmonic mean and its number of images. 0 where nothing is divided by
    nothing.
    """

    name: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Mistake:
    """An image by its row, with the class that it is of and the one it was taken for."""

    row: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True, eq=False)
class Assessment:
    """What a network said about the images of a part, beside what they are of.

    Raises:
        BadInput: the arrays do not fit together, or there are no images.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = (len(self.labels), len(self.class_names))
        if self.probabilities.shape != shape or not len(self.labels):
            raise BadInput(
                f"probabilities must be of shape {shape} (images, classes) with one image or more, "
                f"but are of shape {self.probabilities.shape}"
            )

    @cached_property
    def predicted(self) -> np.ndarray:
        """The likeliest class of each image, int64 (N,)."""
        return self.probabilities.argmax(1)

    @cached_property
    def right(self) -> np.ndarray:
        """Which images were recognised, bool (N,)."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def confusion(self) -> np.ndarray:
        """How many images of class i were taken for class j, (C, C)."""
        return confusion(self.labels, self.predicted, len(self.class_names))

    @cached_property
    def metrics(self) -> dict[str, Measured]:
        """All metrics (`foretune.training.metrics`) by name."""
        count = len(self.labels)
        rows = np.arange(count)
        own = self.probabilities[rows, self.labels].astype(np.float64)
        # of fewer than five classes, all are among the likeliest
        likeliest = np.argpartition(-self.probabilities, min(5, len(self.class_names)) - 1)[:, :5]
        among = (likeliest == self.labels[:, None]).any(1)
        losses = -np.log(np.maximum(own, SMALLEST))
        errors = self._bootstrap()
        found = {
            "accuracy": proportion(self.right),
            "top5": proportion(among),
            "log_loss": Measured(
                float(losses.mean()), float(losses.std(ddof=1) / np.sqrt(count)) if count > 1 else 0
            ),
        }
        values = class_metrics(self.labels, self.probabilities)
        found |= {name: Measured(value, errors[name]) for name, value in values.items()}
        return {name: found[name] for name in GOALS}

    def _bootstrap(self) -> dict[str, float]:
        """Standard deviation of the metrics that go by class, over resampled images."""
        rng = np.random.default_rng(0)
        draws = int(np.clip(CELLS // self.probabilities.size, FEWEST, RESAMPLES))
        values: dict[str, list[float]] = {}
        for _ in range(draws):
            rows = rng.integers(len(self.labels), size=len(self.labels))
            for name, value in class_metrics(self.labels[rows], self.probabilities[rows]).items():
                values.setdefault(name, []).append(value)
        return {name: float(np.std(drawn, ddof=1)) for name, drawn in values.items()}

    @cached_property
    def classes(self) -> list[ClassScore]:
        """Each class, in the order of the network's outputs."""
        right = np.diag(self.confusion).astype(float)
        true, said = self.confusion.sum(1), self.confusion.sum(0)
        scores = zip(
            self.class_names,
            right / np.maximum(said, 1),
            right / np.maximum(true, 1),
            2 * right / np.maximum(true + said, 1),
            true,
            strict=True,
        )
        return [ClassScore(n, float(p), float(r), float(f), int(k)) for n, p, r, f, k in scores]

    def worst(self, count: int) -> list[Mistake]:
        """The mistakes that were made with most confidence, the worst first."""
        sure = self.probabilities.max(1)
        wrong = np.flatnonzero(~self.right)
        rows = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
        return [
            Mistake(int(i), int(self.labels[i]), int(self.predicted[i]), float(sure[i]))
            for i in rows
        ]

    def confused(self, count: int) -> list[tuple[str, str, int]]:
        """Pairs of classes that are confused most: what it is, what it was taken for, how often."""
        off = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-off, axis=None, kind="stable")[:count]
        pairs = [np.unravel_index(place, off.shape) for place in order]
        return [
            (self.class_names[i], self.class_names[j], int(off[i, j]))
            for i, j in pairs
            if off[i, j]
        ]

    def save(self, path: Path) -> None:
        """Write labels and probabilities to an .npz, by rename."""
        with replace(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(
                stream,
                labels=self.labels,
                probabilities=self.probabilities,
                class_names=np.array(self.class_names, dtype=np.str_),
            )

    @classmethod
    def load(cls, path: Path) -> Assessment | None:
        """What `save` wrote; None where there is none, or it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = tuple(str(name) for name in stored["class_names"])
                return cls(stored["labels"], stored["probabilities"], names)
        except (OSError, ValueError, KeyError, EOFError, BadInput):
            return None


def proportion(hits: np.ndarray) -> Measured:
    """The share of `hits` (bool) and its binomial standard error."""
    share = float(hits.mean())
    return Measured(share, binomial_error(share, len(hits)))


def binomial_error(share: float, count: int) -> float:
    """Standard error of a share of `count` images."""
    return float(np.sqrt(max(share * (1 - share), 0.0) / count)) if count else 0.0
