"""What a reader finds in another tool's files: records, as the source wrote them.

A reader turns files into `Record`s and does nothing else: it renames nothing, chooses no metric and
drops no run. What the names mean is decided once, for all formats, in `foretune.stores.mapping` and
`foretune.stores.importing`. Readers run nothing that a file says: no pickle, YAML by `safe_load`,
databases read-only, files no larger than `MAX_BYTES`.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from foretune.errors import BadInput
from foretune.tasks.separated import parted, refuse_split_cells, with_points

MAX_BYTES = 256 * 2**20  # of one text file
MAX_FILES = 200_000  # of one source
Axis = Literal["epoch", "step", "none"]
Point = tuple[float, float]  # (step, value); the step of a value without one is NaN


@dataclass
class Record:
    """One run as its source has it.

    `series` are metrics by name, each a list of (step, value) in the order of the file; a value
    that was logged once without a step has the step NaN. `unique` says that `name` is an identity
    that the tool itself gave (a UUID), so that it is the run's wherever the files lie.
    """

    name: str
    group: str = ""  # experiment, study, project: the task where no setting names one
    params: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[Point]] = field(default_factory=dict)
    state: str = "finished"  # the source's own word, in lower case
    seconds: float | None = None
    parent: str = ""
    unique: bool = False
    planned: float | None = None  # epochs, where the tool knows them apart from its settings
    value: float | None = None  # what the tool itself counts as the run's result
    last_epoch: float | None = None  # epochs done, where the tool knows them apart from the curve

    def add(self, metric: str, step: float, value: Any) -> None:
        """Append a value; what is no number is passed over."""
        try:
            self.series.setdefault(metric, []).append((step, float(value)))
        except (TypeError, ValueError):
            if not self.series[metric]:
                del self.series[metric]


@dataclass
class Source:
    """All records of a source and what the reader has to say about them.

    `axis` is what a step counts; `first` is the number of the first trained epoch (0 or 1; None:
    see the values). `goals`,
    `splits` and `objective` hold what the tool knows of its metrics. `aside` counts
    what was left out, by reason.
    """

    format: str
    label: str
    records: list[Record] = field(default_factory=list)
    axis: Axis = "epoch"
    first: int | None = None
    goals: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    objective: str | None = None
    trainer: str = ""
    mixed: bool = False  # settings and results stand side by side: results must be told by name
    notes: list[str] = field(default_factory=list)
    aside: dict[str, int] = field(default_factory=dict)

    def leave(self, reason: str, count: int = 1) -> None:
        """Count something that is left out."""
        self.aside[reason] = self.aside.get(reason, 0) + count


def read_text(path: Path) -> str:
    """A text file of at most `MAX_BYTES`, as UTF-8; bytes that are none are replaced."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise BadInput(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read")
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """A JSON file. Raises `BadInput` where it is none."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}") from error


class _Plain(yaml.SafeLoader):
    """Safe YAML in which tags of Python objects are passed over, not refused: `hparams.yaml` of
    Lightning is full of them.
    """


_Plain.add_multi_constructor("", lambda loader, tag, node: None)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, as plain values; objects in it become None."""
    try:
        loader = _Plain(read_text(path))
        try:
            found = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadInput(f"{path} must hold a mapping, but holds a {type(found).__name__}")
    return {str(key): value for key, value in found.items()}


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows of a CSV file; comma, semicolon or tab, whichever splits the head.
    Decimal commas become points.

    Raises `BadInput` for a file that is none, a row of more cells than the head, and commas that
    may part decimals or thousands.
    """
    delimiter, text = parted(read_text(path))
    if not text.split("\n", 1)[0].strip():
        return [], []
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    body: list[dict[str, str]] = []
    try:
        head = [name.strip() for name in next(rows)]
        for cells in rows:
            refuse_split_cells(cells, head, f"{path}, line {rows.line_num},")
            if cells:
                body.append(dict(zip(head, cells, strict=False)))
    except csv.Error as error:
        raise BadInput(f"{path} is no CSV: {error}") from error
    columns = {name: [row.get(name) for row in body] for name in head}
    for name, numbers in with_points(columns, str(path)).items():
        for row, cell in zip(body, numbers, strict=True):
            row[name] = cell
    return head, body


def json_number(value: Any) -> Any:
    """A value of JSON in which NaN and infinity may be texts, as some tools write them."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(str(value).replace("Infinity", "inf"))
    return value


def flat(value: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested settings as `outer.inner`; lists stay values."""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping) and depth < 8:
            out |= flat(inner, f"{name}.", depth + 1)
        else:
            out[name] = inner
    return out


def files_named(folder: Path, *names: str) -> Iterator[Path]:
    """Files of these names (patterns too) under `folder`, sorted; links to folders are not
    followed.

    Raises `BadInput` where there are more than `MAX_FILES` of them.
    """
    found: set[Path] = set()
    for name in names:
        for path in folder.rglob(name):
            found.add(path)
            if len(found) > MAX_FILES:
                raise BadInput(f"{folder} holds more than {MAX_FILES:,} files {name}")
    yield from sorted(path for path in found if path.is_file())


def finite(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
