"""A folder of class folders, or of parts (train, valid, test) that hold class folders, as a source."""

import os
from pathlib import Path

import numpy as np

from foretune.errors import BadInput, plural
from foretune.tasks.pixels import SUFFIXES
from foretune.tasks.sources import ImageFiles
from foretune.tasks.split import MIN_PER_CLASS, PARTS, TEST, TRAIN, UNKNOWN, VALID

PART_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "valid": VALID,
    "validation": VALID,
    "val": VALID,
    "test": TEST,
    "testing": TEST,
}


def list_folder(path: Path | str) -> ImageFiles:
    """The images of a folder of class folders; or, where its folders are called train, valid (val,
    validation) and test, of class folders in these, whose split is kept.

    Raises:
        BadInput: naming the file or folder that cannot be used, and why (see docs/guide/tasks.md).
    """
    root = Path(path)
    if not root.is_dir():
        if root.exists():
            raise BadInput(f"{root}: is a file, not a folder of class folders")
        raise BadInput(f"{root}: there is no such folder")
    parts = _part_folders(root)
    listings = (
        {UNKNOWN: _list_classes(root, root)}
        if not parts
        else {part: _list_classes(folder, root, least=1) for part, folder in parts.items()}
    )
    names = tuple(sorted(listings[TRAIN if parts else UNKNOWN]))
    for part, listing in listings.items():
        if unknown := sorted(set(listing) - set(names)):
            raise BadInput(
                f"{parts[part] / unknown[0]}: is a class that {parts[TRAIN]} does not have"
            )
    rows = [
        (file, label, part)
        for part, listing in listings.items()
        for label, name in enumerate(names)
        for file in listing.get(name, ())
    ]
    return ImageFiles(
        name=readable_name(root.resolve()),
        root=root,
        where=str(root),
        files=tuple(file for file, _, _ in rows),
        labels=np.array([label for _, label, _ in rows], dtype=np.int64),
        class_names=tuple(readable_name(root / name) for name in names),
        parts=np.array([part for _, _, part in rows], dtype=np.uint8),
    )


def _part_folders(root: Path) -> dict[int, Path]:
    """The folders of a split by part, train first; none where `root` has class folders."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not _is_clutter(entry))
    found: dict[int, Path] = {}
    for folder in folders:
        part = PART_NAMES.get(folder.name.lower())
        if part is None:
            return {}
        if part in found:
            raise BadInput(
                f"{root}: {found[part].name} and {folder.name} both name the {PARTS[part]} part; "
                "leave one of them"
            )
        found[part] = folder
    # two folders of which one is called train might be classes: those hold images, parts folders
    if TRAIN not in found or not any(entry.is_dir() for entry in found[TRAIN].iterdir()):
        return {}
    return dict(sorted(found.items()))


def _list_classes(root: Path, whole: Path, least: int = MIN_PER_CLASS) -> dict[str, list[Path]]:
    """Files by class name, sorted, checked as far as it goes without reading them: all inside
    `whole`, and `least` of each class. Those that are no images are told with the damaged ones.
    """
    inside = whole.resolve()
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
    if len(folders) < (2 if root == whole else 1):
        content = f"has {len(folders)} {plural('class folder', len(folders))}"
        raise BadInput(
            f"{root}: {content if entries else 'is empty'}; a task is a folder with one folder of "
            "images per class, and at least 2 of them"
        )
    listing: dict[str, list[Path]] = {}
    for folder in folders:
        images = [entry for entry in sorted(folder.iterdir()) if not _is_clutter(entry)]
        for entry in (folder, *images):
            if entry.is_symlink() and not _leads_to(entry).is_relative_to(inside):
                raise BadInput(f"{entry}: is a link out of {whole}; copy the file there instead")
            if entry is not folder and entry.is_dir():
                raise BadInput(
                    f"{entry}: is a folder inside a class folder; classes cannot be nested"
                )
        if len(images) < least:
            raise BadInput(
                f"{folder}: class with {len(images)} images, at least {least} "
                f"{'are needed (train, valid, test)' if root == whole else 'is needed'}"
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
