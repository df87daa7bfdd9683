"""A table of images as a source: a CSV or parquet file of `path,label[,split][,group]`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput, plural
from foretune.tasks.folder import PART_NAMES
from foretune.tasks.separated import parted, refuse_split_cells
from foretune.tasks.sources import ImageFiles
from foretune.tasks.split import PARTS, UNKNOWN

SUFFIXES = (".csv", ".tsv", ".parquet")
NEEDED, OPTIONAL = ("path", "label"), ("split", "group")
SHOWN = 5  # entries of a list of mistakes


def read_manifest(file: Path | str) -> ImageFiles:
    """The images that a table names. Paths are relative to the table's folder, labels are texts,
    other columns are passed over.

    Raises:
        BadInput: naming the column or the row (the first below the heading is 1) at fault.
    """
    file = Path(file)
    table = _table(file)
    paths, labels = (_filled(table, file, column) for column in NEEDED)
    if len(paths) == 0:
        raise BadInput(f"{file}: names no image")
    files = tuple(file.parent / path for path in paths)
    seen: dict[Path, int] = {}
    for row, path in enumerate(files, 1):
        place = path.resolve()  # whatever its spelling, and through links
        if place in seen:
            first, again = paths[seen[place] - 1], paths[row - 1]
            named = again if first == again else f"{first} and {again}"
            raise BadInput(f"{file}: rows {seen[place]} and {row} are the same image, {named}")
        seen[place] = row
    names = tuple(sorted(set(labels)))
    number = {name: label for label, name in enumerate(names)}
    parts, groups = _parts(table, file), _groups(table)
    if groups is not None:
        _refuse_divided(file, parts, groups)
    return ImageFiles(
        name=file.stem,
        root=file.parent,
        where=str(file),
        files=files,
        labels=np.array([number[label] for label in labels], dtype=np.int64),
        class_names=names,
        parts=parts,
        groups=groups,
    )


def _table(file: Path) -> pd.DataFrame:
    """The columns that mean something, as texts; what is missing is empty."""
    try:
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(file)
        else:
            table = _texts(file)
    except BadInput:
        raise
    # pyarrow's errors are ValueErrors and OSErrors, pandas' ValueErrors
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: cannot be read as a table of images: {error}") from error
    table.columns = [str(column).strip().lower() for column in table.columns]
    if missing := [column for column in NEEDED if column not in table.columns]:
        raise BadInput(
            f"{file}: has no {plural('column', len(missing))} {' and '.join(missing)}; a table of "
            f"images has path,label and may have {' and '.join(OPTIONAL)}, but this one has "
            f"{', '.join(table.columns) or 'none'}"
        )
    kept = table[[column for column in (*NEEDED, *OPTIONAL) if column in table.columns]]
    if kept.columns.has_duplicates:
        raise BadInput(f"{file}: has a column twice: {', '.join(table.columns)}")
    try:
        return kept.astype(object).where(kept.notna(), "").map(_text)
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: cannot be read as a table of images: {error}") from error


def _text(cell: object) -> str:
    """A cell as it is meant: blanks around it are none of it, and a whole number has no point."""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8")
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def _texts(file: Path) -> pd.DataFrame:
    """A table of texts; rows without a cell are passed over."""
    delimiter, text = parted(file.read_text(encoding="utf-8-sig"))
    delimiter = "\t" if file.suffix.lower() == ".tsv" else delimiter
    try:
        if not text.strip():
            raise BadInput(f"{file}: is empty; a table of images has path,label")
        lines = io.StringIO(text, newline="")
        names, *rows = csv.reader(lines, delimiter=delimiter, strict=True)
    except csv.Error as error:
        raise BadInput(
            f"{file}: cannot be read as a table of images: {error} (a quote that is not closed?)"
        ) from error
    rows = [row for row in rows if row]
    for k, row in enumerate(rows, 1):
        refuse_split_cells(row, names, f"{file}: row {k}")
    padded = [(row + [""] * len(names))[: len(names)] for row in rows]
    return pd.DataFrame(padded, columns=names, dtype=str)


def _filled(table: pd.DataFrame, file: Path, column: str) -> list[str]:
    values = table[column].tolist()
    if empty := [row for row, value in enumerate(values, 1) if not value.strip()]:
        raise BadInput(f"{file}: {_rows(empty)} without a {column}")
    return values


def _parts(table: pd.DataFrame, file: Path) -> np.ndarray:
    """The split that is given, uint8 (N,)."""
    if "split" not in table.columns or not any(value.strip() for value in table["split"]):
        return np.full(len(table), UNKNOWN, dtype=np.uint8)
    values = [value.strip().lower() for value in table["split"]]
    if wrong := [row for row, value in enumerate(values, 1) if value not in PART_NAMES]:
        raise BadInput(
            f"{file}: {_rows(wrong)} with split {table['split'].iloc[wrong[0] - 1]!r}; "
            f"{', '.join(PART_NAMES)} would be right, in every row or in none"
        )
    return np.array([PART_NAMES[value] for value in values], dtype=np.uint8)


def _groups(table: pd.DataFrame) -> tuple[str, ...] | None:
    """Every row's group; a row without one is a group of its own."""
    if "group" not in table.columns:
        return None
    values = table["group"].tolist()
    return tuple(
        f"group {value}" if value.strip() else f"row {row}" for row, value in enumerate(values, 1)
    )


def _refuse_divided(file: Path, parts: np.ndarray, groups: Sequence[str]) -> None:
    where: dict[str, int] = {}
    for group, part in zip(groups, parts.tolist(), strict=True):
        if where.setdefault(group, part) != part:
            raise BadInput(
                f"{file}: {group} stands in {PARTS[where[group]]} and in {PARTS[part]}; images of "
                "one group must be in one part (leave the column split out to have it made so)"
            )


def _rows(rows: Sequence[int]) -> str:
    """`rows 3, 8 and 2 more`"""
    shown = ", ".join(str(row) for row in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{plural('row', len(rows))} {shown}{more}"
