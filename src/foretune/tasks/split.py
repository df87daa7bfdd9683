"""The parts of a task: which images train, which choose, which judge."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from foretune.errors import BadInput

PARTS = ("train", "valid", "test")
TRAIN, VALID, TEST = 0, 1, 2
UNKNOWN = 255  # of an image whose part is not given
SHARES = (0.6, 0.2, 0.2)
MIN_PER_CLASS = 3  # one image for each part


def content_keys(images: Iterable[np.ndarray]) -> list[str]:
    """SHA-256 (hex) of each image's pixels: equal images have equal keys."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images]


def complete_split(
    parts: np.ndarray,
    keys: Sequence[str],
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The given parts, with those that are missing drawn from the training part by content; and a
    line for each that was drawn.

    `parts` is uint8 (N,), `UNKNOWN` everywhere where none is given: then the split is that of
    `split_by_keys`, and no line is needed.

    Raises:
        BadInput: a class has too few images for it.
    """
    present = set(np.unique(parts).tolist())
    if present == {UNKNOWN}:
        return split_by_keys(keys, labels, class_names, groups), []
    missing = [part for part in (VALID, TEST) if part not in present]
    if not missing:
        return parts, []
    rows = np.flatnonzero(parts == TRAIN).tolist()
    # what it would be of 60/20/20: a quarter of train and valid together
    shares = (
        SHARES if len(missing) == 2 else (0.75, *((0.25, 0.0) if VALID in missing else (0.0, 0.25)))
    )
    drawn = split_by_keys(
        [keys[row] for row in rows],
        labels[rows],
        class_names,
        None if groups is None else [groups[row] for row in rows],
        shares,
    )
    split = parts.copy()
    split[rows] = drawn
    told = [
        f"there is no {PARTS[part]} part: {int((drawn == part).sum())} of the {len(rows)} training "
        "images were drawn for it"
        for part in missing
    ]
    return split, told


def split_by_content(
    images: Iterable[np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    shares: Sequence[float] = SHARES,
) -> np.ndarray:
    """`split_by_keys` of the images' pixels."""
    return split_by_keys(content_keys(images), labels, class_names, groups, shares)


def split_by_keys(
    keys: Sequence[str],
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    shares: Sequence[float] = SHARES,
) -> np.ndarray:
    """Fixed stratified split (60/20/20 by default), uint8 (N,), by the pixels alone, whose
    `content_keys` are given.

    Neither file names nor order change it.

    Images with equal pixels, and images of one group (one patient, one font), fall in the same
    part, so that nothing leaks. Units are dealt out in the order of their SHA-256, largest first,
    each to the part that lacks most of its classes.

    Raises:
        BadInput: a class that cannot be in every part that has a share.
    """
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
