"""`foretune predict`: which class each picture is of, by the model that a study handed over."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.errors import BadInput, plural
from foretune.tasks.pixels import SUFFIXES
from foretune.tasks.reading import processors

if TYPE_CHECKING:
    from foretune.training.model_file import Model

CHUNK = 256  # pictures that are held at once


def run(args: argparse.Namespace) -> int:
    """Predict and print."""
    from foretune.training.model_file import Model
    from foretune.training.trial import device_of

    if args.top < 1:
        raise BadInput(f"--top {args.top} must be at least 1")
    if args.json and args.csv:
        raise BadInput("--json and --csv: choose one")
    files = pictures(args.files)
    model = Model.load(args.model, str(device_of(args.device)))
    probabilities, bad = predictions(model, files)
    if bad:
        told = f"{len(bad)} of {len(files)} {plural('image', len(files))} cannot be read: " + (
            "; ".join(bad.values())
        )
        if not args.skip_bad:
            raise BadInput(f"{told} (--skip-bad leaves such images out)")
        print(f"  left out: {told}", file=sys.stderr)
    good = [file for file in files if file not in bad]
    rows = list(zip(good, (top_of(row, model.classes, args.top) for row in probabilities)))  # noqa: B905
    if args.json:
        print(json.dumps([as_json(file, top) for file, top in rows], indent=1))
    elif args.csv:
        write_csv(rows, min(args.top, len(model.classes)))
    else:
        width = max((len(str(file)) for file in good), default=0)
        for file, top in rows:
            said = ", ".join(f"{name} {100 * share:.1f} %" for name, share in top)
            print(f"{file!s:<{width}}  {said}")
    return 0


def pictures(named: Sequence[Path]) -> list[Path]:
    """The files, and those of the folders with all below them, by name; files that are not pictures
    are passed over in folders. Raises `BadInput` for what is not there, all in one line.
    """
    missing = [str(path) for path in named if not path.exists()]
    if missing:
        raise BadInput(f"there is no file or folder {', '.join(missing)}")
    found: dict[Path, None] = {}
    for path in named:
        if not path.is_dir():
            found[path] = None
            continue
        inside = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and file.is_file()
        ]
        if not inside:
            raise BadInput(f"{path}: there is no picture in that folder")
        found |= dict.fromkeys(inside)
    return list(found)


def predictions(model: "Model", files: Sequence[Path]) -> tuple[np.ndarray, dict[Path, str]]:
    """Class probabilities of the files that can be read, in their order, and what is wrong with the
    others.
    """
    found, bad = [np.zeros((0, len(model.classes)), np.float32)], {}
    with ThreadPoolExecutor(processors()) as pool:
        for chunk in chunks(files, CHUNK):
            good = []
            for file, read in zip(chunk, pool.map(lambda f: reading(model, f), chunk), strict=True):
                if isinstance(read, str):
                    bad[file] = read
                else:
                    good.append(read)
            if good:
                found.append(model.probabilities(np.stack(good)))
    return np.concatenate(found), bad


def reading(model: "Model", file: Path) -> np.ndarray | str:
    """The picture, or what is wrong with it."""
    try:
        return model.read(file)
    except BadInput as error:
        return str(error)
    except OSError as error:
        return f"{file}: {error.strerror or error}"


def chunks(files: Sequence[Path], size: int) -> Iterator[list[Path]]:
    """Lists of at most `size`."""
    rest = iter(files)
    while chunk := list(islice(rest, size)):
        yield chunk


Top = list[tuple[str, float]]


def top_of(row: np.ndarray, classes: Sequence[str], count: int) -> Top:
    """The likeliest classes and their probabilities, likeliest first."""
    order = np.argsort(-row, kind="stable")[:count]
    return [(classes[k], float(row[k])) for k in order]


def as_json(file: Path, top: Top) -> dict[str, Any]:
    """A picture for programs."""
    return {
        "file": str(file),
        "predictions": [{"class": name, "probability": round(p, 6)} for name, p in top],
    }


def write_csv(rows: Sequence[tuple[Path, Top]], count: int) -> None:
    """A line for each picture, with columns for each of its likeliest classes."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    numbers = ["", *(f"_{k}" for k in range(2, count + 1))]
    writer.writerow(["file", *(f"{name}{k}" for k in numbers for name in ("class", "probability"))])
    for file, top in rows:
        writer.writerow([str(file), *(x for name, p in top for x in (name, f"{p:.6f}"))])
