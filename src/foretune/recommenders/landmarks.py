"""Landmarks of a task: how far frozen features tell its classes apart, as cheap classifiers on its
labelled images say (Pfahringer, Bensusan and Giraud-Carrier, ICML 2000).

How deep a network must be fine-tuned depends on how separable its frozen features are already, and
nothing that sees no labels can know. Everything comes from at most `LIMIT` images of the task's
train part; MobileNetV2 (ImageNet), `SIZE` px. Shapes: N images, C classes, p features.
"""

from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch

from foretune.recommenders.trunk import CHUNK, CUT, image_rows
from foretune.tasks.task import Task
from foretune.training.augmentation import normalise, resize, to_float
from foretune.training.chains import Chain, build_chain

LIMIT, SIZE = 384, 48
COARSE = 8  # pixels of the edge that the probe on plain pixels sees
STOPS = (2, 6, CUT + 2)  # stages after which features are looked at: block0, block4, penultimate
FOLDS, RIDGE, NEIGHBOURS = 4, 1.0, 5
NAMES = (
    "probe of pixels", "probe of block0", "probe of block4", "probe of the top",
    "neighbours at the top", "gain of depth", "between-class share", "log effective dimension",
    "probe under flips", "log images per class seen",
)  # fmt: skip

_KNOWN: WeakKeyDictionary[Task, np.ndarray] = WeakKeyDictionary()


def landmarks(task: Task) -> np.ndarray:
    """`measured`, once per task object."""
    if task not in _KNOWN:
        _KNOWN[task] = measure(task)
    return _KNOWN[task]


def measure(task: Task) -> np.ndarray:
    """Landmarks of `NAMES`, (10,): accuracies above chance (`above_chance`), cross-validated;
    the share of the top features' variance that lies between classes; the exponential entropy of
    their spectrum, logarithmised.
    """
    rows = image_rows(task, LIMIT)
    labels, images = task.labels[rows], task.images[rows]
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    layers = features(pixels)
    plain = resize(pixels, COARSE).flatten(1).numpy().astype(float) / 255
    probes = [probe(x, x, labels) for x in (plain, *layers)]
    top = layers[-1]
    flipped = probe(top, features(pixels.flip(3))[-1], labels)
    return np.array(
        [
            *probes,
            neighbours(top, labels),
            probes[-1] - probes[1],
            between_share(top, labels),
            np.log(effective_dimension(top)),
            flipped,
            np.log(len(labels) / task.num_classes),
        ]
    )


@lru_cache(maxsize=1)
def network() -> Chain:
    """The frozen network, read once a process."""
    return build_chain(
        "mobilenet_v2", 2, True, finetune="head", weights=None, seed=0, device="cpu"
    ).eval()


@torch.no_grad()
def features(pixels: torch.Tensor) -> list[np.ndarray]:
    """Features after each of `STOPS`, averaged over the image, (N, p) each, of `pixels` uint8
    (N, 3, H, W).
    """
    chain = network()
    parts: list[list[np.ndarray]] = [[] for _ in STOPS]
    for chunk in resize(pixels, SIZE).split(CHUNK):
        x, start = normalise(to_float(chunk), chain.mean, chain.std), 0
        for stop, part in zip(STOPS, parts, strict=True):
            x = chain(x, start=start, stop=stop)
            start = stop
            part.append((x.mean(dim=(2, 3)) if x.ndim == 4 else x).double().numpy())
    return [np.concatenate(part) for part in parts]


def above_chance(right: float, labels: np.ndarray) -> float:
    """An accuracy, 0 where it is that of the commonest class, 1 where it is perfect."""
    chance = float(np.bincount(labels).max() / len(labels))
    return (right - chance) / max(1 - chance, 1e-9)


def folds(labels: np.ndarray) -> np.ndarray:
    """A fold for each image, (N,): those of a class are dealt out in turn."""
    place = np.empty(len(labels), dtype=int)
    for c in np.unique(labels):
        mine = np.flatnonzero(labels == c)
        place[mine] = np.arange(len(mine))
    return place % FOLDS


def probe(x: np.ndarray, shown: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy above chance of ridge regression onto the classes: trained on features `x` (N, p),
    judged on those `shown` (N, p) of the same images in the fold left out.
    """
    targets, place = np.eye(int(labels.max()) + 1)[labels], folds(labels)
    right = 0
    for fold in range(FOLDS):
        out = place == fold
        if not out.any() or out.all():
            continue
        centre, width = x[~out].mean(axis=0), x[~out].std(axis=0) + 1e-6
        train, test = (x[~out] - centre) / width, (shown[out] - centre) / width
        mean = targets[~out].mean(axis=0)
        # in the space of images, which are fewer than features
        gram = train @ train.T / train.shape[1]
        alpha = np.linalg.solve(gram + RIDGE * np.eye(len(gram)), targets[~out] - mean)
        said = mean + test @ train.T @ alpha / train.shape[1]
        right += int((said.argmax(axis=1) == labels[out]).sum())
    return above_chance(right / len(labels), labels)


def neighbours(x: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy above chance of the vote of the nearest `NEIGHBOURS` others, by cosine."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :NEIGHBOURS]
    votes = np.eye(int(labels.max()) + 1)[labels][nearest].sum(axis=1)
    return above_chance(float((votes.argmax(axis=1) == labels).mean()), labels)


def between_share(x: np.ndarray, labels: np.ndarray) -> float:
    """Variance between class means as a share of all, features standardised; 0 without any."""
    z = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    means = np.stack([z[labels == c].mean(axis=0) for c in np.unique(labels)])
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    total = float((z**2).mean())
    return float((share @ means**2).mean()) / total if total > 0 else 0.0


def effective_dimension(x: np.ndarray) -> float:
    """exp of the entropy of the shares of variance of the principal components; at least 1."""
    centred = x - x.mean(axis=0)
    share = np.clip(np.linalg.eigvalsh(centred @ centred.T), 0, None)
    if share.sum() <= 0:
        return 1.0
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
