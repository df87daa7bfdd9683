"""A folder of class folders, read as a task."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foretune.errors import BadInput, plural
from foretune.tasks.pixels import SUFFIXES, check_size, decode
from foretune.tasks.task import MIN_PER_CLASS, Task, check_memory, split_by_content


def read_folder(
    path: Path | str,
    size: int = 64,
    progress: Callable[[int, int], None] | None = None,
    *,
    skip_bad: bool = False,
) -> Task:
    """Read a folder of class folders; `progress(done, total)` is called after each image.

    With `skip_bad`, images that cannot be read are left out, and a warning names them; every file
    is decoded once.

    Raises:
        BadInput: naming the file or folder that cannot be used, and why (see docs/guide/tasks.md);
            of images that cannot be read, all of them.
    """
    root = Path(path)
    check_size(size)
    listing = _list_folder(root)
    names = tuple(sorted(listing))
    total = sum(len(listing[name]) for name in names)
    check_memory(total, size, str(root))
    images = np.empty((total, size, size, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(len(names)), [len(listing[name]) for name in names])
    files = [file for name in names for file in listing[name]]
    readable, bad = np.ones(total, dtype=bool), []
    for row, file in enumerate(files):
        try:
            images[row] = decode(file, size)
        except BadInput as error:
            readable[row] = False
            bad.append(str(error))
        if progress is not None:
            progress(row + 1, total)
    if bad:
        told = "; ".join(bad)
        many = f"{len(bad)} of {total} images cannot be used: " if len(bad) > 1 else ""
        if not skip_bad:
            raise BadInput(f"{many}{told} (--skip-bad leaves such images out)")
        warnings.warn(f"left out {len(bad)} of {total} images: {told}", stacklevel=2)
        images, labels = images[readable], labels[readable]
        for label, name in enumerate(names):
            if (left := int((labels == label).sum())) < MIN_PER_CLASS:
                raise BadInput(
                    f"{root / name}: class with {left} {plural('image', left)} that can be read, "
                    f"at least {MIN_PER_CLASS} are needed (train, valid, test): {told}"
                )
    name, names = readable_name(root.resolve()), tuple(readable_name(root / n) for n in names)
    return Task(name, images, labels, names, split_by_content(images, labels, names), source=name)


def _list_folder(root: Path) -> dict[str, list[Path]]:
    """Image files by class name, sorted, checked as far as it goes without reading them."""
    if not root.is_dir():
        if root.exists():
            raise BadInput(f"{root}: is a file, not a folder of class folders")
        raise BadInput(f"{root}: there is no such folder")
    inside = root.resolve()
    entries = [entry for entry in sorted(root.iterdir()) if not _is_clutter(entry)]
    folders = [entry for entry in entries if entry.is_dir()]
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise BadInput(
                f"{entry}: is a link that leads nowhere; remove it, or put a folder there"
            )
    loose = [entry for entry in entries if not entry.is_dir() and entry.suffix.lower() in SUFFIXES]
    if loose:
        remedy = "but no class folders: put the images into one folder per class"
        if folders:
            remedy = "beside the class folders: move it into one"
        raise BadInput(f"{root}: holds images such as {loose[0].name} {remedy}")
    if len(folders) < 2:
        content = f"has {len(folders)} {plural('class folder', len(folders))}"
        raise BadInput(
            f"{root}: {content if entries else 'is empty'}; a task is a folder with one folder of "
            "images per class, and at least 2 of them"
        )
    listing: dict[str, list[Path]] = {}
    for folder in folders:
        images = [entry for entry in sorted(folder.iterdir()) if not _is_clutter(entry)]
        for entry in (folder, *images):
            if not _leads_to(entry).is_relative_to(inside):
                raise BadInput(f"{entry}: is a link out of {root}; copy the file there instead")
            if entry is not folder and entry.is_dir():
                raise BadInput(
                    f"{entry}: is a folder inside a class folder; classes cannot be nested"
                )
            if entry is not folder and entry.suffix.lower() not in SUFFIXES:
                raise BadInput(
                    f"{entry}: is no image of a kind read here "
                    f"({', '.join(sorted(SUFFIXES))}); convert or remove it"
                )
        if len(images) < MIN_PER_CLASS:
            raise BadInput(
                f"{folder}: class with {len(images)} images, at least {MIN_PER_CLASS} are "
                "needed (train, valid, test)"
            )
        listing[folder.name] = images
    return listing


def readable_name(path: Path) -> str:
    """A file's name as text: one that is no UTF-8, of an old archive, is read as Latin-1."""
    name = os.fsencode(path.name)
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _leads_to(entry: Path) -> Path:
    """Where a link leads; for one that leads to itself its own place, to be read and refused as any
    other file that is none.
    """
    try:
        return entry.resolve()
    except (OSError, RuntimeError):  # the latter before Python 3.13
        return entry.parent.resolve() / entry.name


def _is_clutter(entry: Path) -> bool:
    clutter = ("thumbs.db", "desktop.ini", "__macosx")
    return entry.name.startswith(".") or entry.name.lower() in clutter
