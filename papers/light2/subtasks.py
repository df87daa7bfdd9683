"""Two plans of what to train: the gate's 24 sub-tasks of six sources with 24 configurations, and
light2's 64 of sixteen sources with 54, of which the gate is a part.

**Sources** of the gate are one of a kind: grey photographs of objects, black shapes, rendered
writing, coloured drawings, simulated physics and medical photographs. All but the last hold enough
images that the largest sub-task of two classes is seldom cut short, and all are read from packages
of 3 to 94 MB in under a minute. light2 has ten more: all that the embedded tasks have, one task
each.

**Factors**, a Latin hypercube inside each source (four points, seeded by the source's name and
`SEED`): every source gets each number of training images and each number of classes once. Of a
source's train part, classes and images are drawn; `imbalance` is the largest class's images over
the smallest's, falling exponentially from class to class, in the train part only, and `noise` the
share of training labels that are changed to another class, as is usual for long-tailed and
noisy-label benchmarks: validation labels are true, and classes there are as even as the source
allows. `resolution` is the edge in pixels that images are shrunk to before they are scaled back to
64. What a source lacks caps a level: the columns `images` and `classes` have what is there.

**Validation** is on up to 1,000 images of the source's valid and test part, which share no image
and no group (patient, character) with the train part. Nothing is tested afterwards: there is no
test part.

**Configurations**: each optimizer with three rates of its own (for the head one step up the ladder
of rates, but no further than its end), times depth, times augmentation, make 54. The gate leaves out
the head's lowest rates, and of each optimizer, rate and depth it takes one augmentation, by the parity
of their places, so that no two of these factors go together: 9 + 9 + 6 (head). All are in
`transfer_pool()`.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import qmc

from foretune.space.catalogue import AUGMENTATIONS, DEPTHS
from foretune.space.space import Config
from foretune.tasks.embedded.prepare import EMBEDDED, prepare, up_to_date
from foretune.tasks.pixels import square
from foretune.tasks.task import Task

SOURCES = (
    "fashion_mnist",
    "animal_silhouettes",
    "hangul",
    "emoji_subject",
    "ising_temperature",
    "chest_xray_cause",
)
MORE_SOURCES = (
    "mnist",
    "digits",
    "brain_mri",
    "radio_galaxies",
    "solar_grade",
    "textiles",
    "chess_photos",
    "microstructures",
    "letters",
    "icon_subject",
)
MOST = 12_000  # images of a source: two of ten classes are 2,400, their train part 1,440
IMAGES = (100, 250, 600, 1200)
CLASSES = (2, 5, 10, 0)  # 0: all
RESOLUTIONS = (16, 32, 64)
NOISES = (0.0, 0.0, 0.2)
IMBALANCES = (1, 1, 10)
VALIDATION = 1000
SIZE = 64
FEWEST = 2  # training images of a class, where it has them
LEAST_EPOCHS, LEAST_STEPS, BATCH = 10, 100, 32
RECIPE = 1  # raise it when `cut` changes what it makes
RATES = {"adam": (3e-4, 1e-3, 5e-3), "adagrad": (1e-3, 5e-3, 2e-2), "sgd": (5e-3, 2e-2, 1e-1)}
HEAD_RATES = {"adam": (5e-3, 2e-2), "adagrad": (2e-2, 1e-1), "sgd": (2e-2, 1e-1)}
LOWEST_HEAD_RATE = {"adam": 1e-3, "adagrad": 5e-3, "sgd": 5e-3}  # which the gate leaves out
# of 0 to 199 the one whose 24 sub-tasks have the smallest largest correlation of two factors
SEED = 173


@dataclass(frozen=True)
class Factors:
    """What is drawn for a sub-task: levels asked for, before a source's caps."""

    name: str
    parent: str
    images: int
    classes: int  # 0: all
    resolution: int
    noise: float
    imbalance: int


def draw_factors(parent: str, seed: int = SEED) -> list[Factors]:
    """The four sub-tasks of a source, by number of training images."""
    own = zlib.crc32(f"{parent} {seed}".encode())
    sampler = qmc.LatinHypercube(5, rng=np.random.default_rng(own))
    levels = (IMAGES, CLASSES, RESOLUTIONS, NOISES, IMBALANCES)
    drawn = []
    for point in sampler.random(len(IMAGES)):
        n, *others = (level[int(u * len(level))] for u, level in zip(point, levels, strict=True))
        drawn.append(Factors(f"{parent}_{n}", parent, int(n), *others))  # type: ignore[arg-type]
    return sorted(drawn, key=lambda factors: factors.images)


def configurations() -> list[Config]:
    """The 24 configurations, in a fixed order."""
    names = ("learning_rate", "optimizer", "finetune", "augmentation")
    out: list[Config] = []
    for (o, optimizer), (d, depth) in product(enumerate(RATES), enumerate(DEPTHS)):
        for r, rate in enumerate((HEAD_RATES if depth == "head" else RATES)[optimizer]):
            values = (rate, optimizer, depth, AUGMENTATIONS[(o + d + r) % 2])
            out.append(dict(zip(names, values, strict=True)))
    return out


def all_configurations() -> list[Config]:
    """The 54 configurations; the gate's come first, in its order."""
    names = ("learning_rate", "optimizer", "finetune", "augmentation")
    out = configurations()
    for optimizer, depth, augmentation in product(RATES, DEPTHS, AUGMENTATIONS):
        rates = (HEAD_RATES if depth == "head" else RATES)[optimizer]
        lowest = () if len(rates) == len(RATES[optimizer]) else (LOWEST_HEAD_RATE[optimizer],)
        for rate in (*lowest, *rates):
            config = dict(zip(names, (rate, optimizer, depth, augmentation), strict=True))
            if config not in out:
                out.append(config)
    return out


def epochs_of(images: int) -> int:
    """Epochs of a trial: 10, or as many as make 100 steps of 32 images."""
    steps = math.ceil(images / BATCH) - (images % BATCH == 1)  # a last batch of one joins another
    return max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / max(1, steps)))


def take(
    labels: np.ndarray, most: int, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Rows of at most `most` labels, (m,) ascending: classes in proportion to `weights` (C,), and
    where one has no more, others fill up; `FEWEST` of each class before all else.
    """
    key = np.empty(len(labels))
    for label, weight in enumerate(weights):
        own = rng.permutation(np.flatnonzero(labels == label))
        key[own] = (np.arange(len(own)) + 0.5) / weight
        key[own[:FEWEST]] = -1.0
    return np.sort(np.argsort(key, kind="stable")[:most])


def cut(parent: Task, factors: Factors) -> Task:
    """The sub-task of `parent` that `factors` ask for; its split has a train and a valid part."""
    rng = np.random.default_rng(zlib.crc32(factors.name.encode()))
    count = min(factors.classes or parent.num_classes, parent.num_classes)
    chosen = np.sort(rng.permutation(parent.num_classes)[:count])
    inside = np.flatnonzero(np.isin(parent.labels, chosen))
    labels, train = np.searchsorted(chosen, parent.labels[inside]), parent.split[inside] == 0
    falling = factors.imbalance ** -(np.arange(count) / max(1, count - 1))
    rows = {
        0: np.flatnonzero(train)[take(labels[train], factors.images, falling, rng)],
        1: np.flatnonzero(~train)[take(labels[~train], VALIDATION, np.ones(count), rng)],
    }
    both = np.concatenate([rows[0], rows[1]])
    split = np.repeat([0, 1], [len(rows[0]), len(rows[1])]).astype(np.uint8)
    given = labels[both]
    wrong = rng.permutation(len(rows[0]))[: round(factors.noise * len(rows[0]))]
    given[wrong] = (given[wrong] + rng.integers(1, count, len(wrong))) % count
    images = parent.images[inside[both]]
    if factors.resolution < SIZE:
        images = np.stack([shrunk(image, factors.resolution) for image in images])
    names = tuple(parent.class_names[c] for c in chosen)
    return Task(factors.name, images, given, names, split, parent.source, parent.licence)


def shrunk(image: np.ndarray, edge: int) -> np.ndarray:
    """An image at `edge` pixels, scaled back, uint8 of its shape."""
    return square(Image.fromarray(square(Image.fromarray(image), edge)), len(image))


def prepare_subtasks(
    data: Path, sources: Sequence[str], say: Callable[[str], None]
) -> dict[str, Path]:
    """Write DATA/NAME.npz of every sub-task of `sources` that is not up to date, from DATA/sources;
    the files by name, sources in turn. Raises `BadInput` where a package cannot be fetched.
    """
    files: dict[str, Path] = {}
    for parent in sources:
        missing = {}
        for factors in draw_factors(parent):
            text = json.dumps([RECIPE, MOST, SIZE, EMBEDDED[parent].hash, asdict(factors)])
            comment = hashlib.sha256(text.encode()).hexdigest()
            files[factors.name] = path = data / f"{factors.name}.npz"
            if not up_to_date(path, comment):
                missing[comment] = factors
        if missing:
            source = Task.load(prepare(parent, data / "sources", SIZE, say, most=MOST))
            for comment, factors in missing.items():
                cut(source, factors).save(files[factors.name], comment)
    return files


def table_row(task: Task, factors: Factors) -> dict[str, object]:
    """What a sub-task came to be: the drawn factors, and the caps of its source applied."""
    train = np.bincount(task.part("train")[1], minlength=task.num_classes)
    return {
        "task": task.name,
        "source": task.source,
        "parent": factors.parent,
        "images": int(train.sum()),
        "classes": task.num_classes,
        "resolution": factors.resolution,
        "noise": factors.noise,
        "imbalance": factors.imbalance,
        "fewest_of_a_class": int(train.min()),
        "most_of_a_class": int(train.max()),
        "validation_images": len(task.part("valid")[1]),
        "epochs": epochs_of(int(train.sum())),
        "drawn_images": factors.images,
        "drawn_classes": factors.classes or "all",
        "class_names": " ".join(name.replace(" ", "_") for name in task.class_names),
    }
