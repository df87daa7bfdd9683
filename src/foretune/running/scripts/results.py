"""What a script reports, read while it runs: `--read WHERE:WHAT`.

| WHERE          | WHAT                            | what is read                                        |
|----------------|---------------------------------|-----------------------------------------------------|
| `*.csv, *.tsv` | a column                        | a row a result; rows without the column's value are |
|                |                                 | passed over                                         |
| `*.json`,      | a key, or keys with dots        | an object a line, a list of objects, or the list    |
| `*.jsonl`      | between                         | that an object has as `log_history`                 |
| `tensorboard`  | a tag                           | the event files below the trial's folder            |
| `mlflow`       | a metric                        | the run in a database of the trial's own, which     |
|                |                                 | MLFLOW_TRACKING_URI names to the script             |
| `stdout`       | a regular expression with a     | what the script prints, standard error included     |
|                | group; `(?P<epoch>...)` and     |                                                     |
|                | `(?P<value>...)` name two       |                                                     |

Files are named as they lie in the trial's folder; `*` and `**` are allowed, and several files that
match are read one after another by name. Each result is an epoch: the one whose epoch, step or
iteration is k-th among all that the trial has reported is epoch k, so that scripts may count from 0
or 1, or in steps.
"""

import csv
import io
import json
import math
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from foretune.errors import BadInput
from foretune.stores.tfrecord import scalars
from foretune.tasks.separated import parted, refuse_split_cells, with_point

# columns that say which epoch a result is of, the first that is there
EPOCHS = ("epoch", "training_iteration", "step", "global_step", "iteration", "trainer/global_step")
MOST_BYTES = 64 * 2**20  # of a file of results
REST = 5.0  # times as long as reading took, nothing is read again
DATABASE = "mlflow.db"
FOLDER = "{trial_folder}/"

Result = tuple[str | None, str]  # the epoch, step or iteration, and the value, as they stand


class BadResult(Exception):
    """What a script wrote cannot be read as results; the text says why."""


class Gap(BadResult):
    """A run that was continued left out an epoch: its checkpoint was ahead of its results."""


@dataclass(frozen=True)
class Source:
    """Where results come from: `kind` is csv, json, tensorboard, mlflow or stdout; `pattern` the
    files of it, `what` a column, key, tag, metric or regular expression; `metric` its name for
    people and tables.
    """

    kind: str
    pattern: str
    what: str
    metric: str

    @property
    def in_folder(self) -> bool:
        """Whether the script must be told the trial's folder for its results to be found."""
        return self.kind in ("csv", "json", "tensorboard")

    @property
    def says_epochs(self) -> bool:
        """Whether it is known that results can say their epoch; for tables, their columns tell."""
        return self.kind != "stdout" or "epoch" in re.compile(self.what).groupindex


KINDS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}


def source(text: str) -> Source:
    """The source that `--read` names. Raises `BadInput` for one that is none."""
    where, colon, what = text.partition(":")
    where = where.removeprefix(FOLDER)
    if not colon or not what:
        raise BadInput(
            f"--read {text!r} must be FILE:COLUMN, such as results.csv:val_acc, "
            "tensorboard:TAG, mlflow:METRIC or 'stdout:acc=([0-9.]+)'"
        )
    if where == "stdout":
        return Source("stdout", "", what, metric_of(what))
    if where == "tensorboard":
        return Source("tensorboard", "**/*tfevents*", what, what)
    if where == "mlflow":
        return Source("mlflow", DATABASE, what, what)
    kind = KINDS.get(Path(where).suffix)
    if kind is None:
        raise BadInput(
            f"--read {text!r}: {where!r} is none of {', '.join(KINDS)}, tensorboard, mlflow, stdout"
        )
    if Path(where).is_absolute() or ".." in Path(where).parts:
        raise BadInput(
            f"--read {text!r}: {where!r} must lie in the trial's folder, since trials that run "
            "at the same time would write into one file: let the script write to {trial_folder}"
        )
    return Source(kind, where, what, what)


def metric_of(expression: str) -> str:
    """The name of what a regular expression finds: the letters before its group. Raises `BadInput`
    for one that finds nothing.
    """
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise BadInput(f"--read: {expression!r} is no regular expression: {error}") from error
    named = compiled.groupindex
    if compiled.groups == 0 or ("epoch" in named and compiled.groups < 2):
        raise BadInput(
            f"--read: {expression!r} has no group for the value: write 'acc=([0-9.]+)', or "
            "'epoch (?P<epoch>[0-9]+).*acc=(?P<value>[0-9.]+)'"
        )
    first = expression.index("(?P<value>") if "value" in named else expression.index("(")
    words = re.findall(r"[A-Za-z][\w/.\-]*", re.sub(r"\([^)]*\)|\\.", " ", expression[:first]))
    return str(words[-1]) if words else "value"


class Reader(Protocol):
    """Reads the results of a script that runs."""

    def printed(self, lines: Sequence[str]) -> None:
        """Take lines that the script printed; one that ends with a carriage return is printed over
        by the next.
        """

    def ended(self) -> None:
        """Take it that nothing more is printed."""

    def results(self, last: bool = False) -> list[Result] | None:
        """All results that there are, those of earlier runs in the same files included; None where
        nothing has changed, or it is too early to look again, unless this is the `last` look.
        Raises `BadResult`.
        """

    def missing(self) -> str:
        """What there is instead, where there are no results."""


def reader(source: Source, folder: Path) -> Reader:
    """What reads a source for a trial in `folder`."""
    return Printed(source) if source.kind == "stdout" else Files(source, folder)


@dataclass
class Printed:
    """Results that a regular expression finds in printed lines. Of what a progress bar prints over
    itself, that counts which is left standing, or which the next epoch's is printed over.
    """

    source: Source
    found: list[Result] = field(default_factory=list)
    changed: bool = False
    standing: list[Result] = field(default_factory=list)  # in a line that may be printed over

    def printed(self, lines: Sequence[str]) -> None:
        """Take lines."""
        for line in lines:
            new = self._results_in(line)
            if not line:
                new = self.standing
            elif self.standing and new and self.standing[0][0] != new[0][0]:
                self._add(self.standing)
            self.standing = new if line.endswith("\r") else []
            if not line.endswith("\r"):
                self._add(new)

    def ended(self) -> None:
        """What stands is left standing."""
        self._add(self.standing)
        self.standing = []

    def _add(self, new: list[Result]) -> None:
        self.found += new
        self.changed |= bool(new)

    def _results_in(self, line: str) -> list[Result]:
        found: list[Result] = []
        for match in re.finditer(self.source.what, line):
            named = match.groupdict()
            value = named["value"] if "value" in named else first_unnamed(match)
            if value is not None:
                refuse_cut_number(value, line[match.end() :], self.source.what)
                found.append((named.get("epoch"), value))
        return found

    def results(self, last: bool = False) -> list[Result] | None:
        """What was found."""
        changed, self.changed = self.changed, False
        return self.found if changed else None

    def missing(self) -> str:
        """What there is instead."""
        return f"it printed nothing that {self.source.what!r} finds"


def first_unnamed(match: re.Match[str]) -> str | None:
    """The first group that is not the epoch."""
    epoch = match.re.groupindex.get("epoch")
    return next((match[k] for k in range(1, match.re.groups + 1) if k != epoch), None)


def refuse_cut_number(value: str, rest: str, expression: str) -> None:
    """Raise `BadResult` for a value that an expression cuts off at its decimal comma; `rest` is
    what follows in the line.
    """
    if value.isdecimal() and (more := re.match(r",\d+(?![\d.,])", rest)):
        raise BadResult(
            f"{expression!r} finds {value!r} in '{value}{more[0]}': let it find commas too, such "
            "as acc=([0-9.,]+)"
        )


class Files:
    """Results in files of the trial's folder."""

    def __init__(self, source: Source, folder: Path):
        self.source, self.folder = source, folder
        self._seen: list[tuple[str, int, int]] = []
        self._not_before = 0.0

    def printed(self, lines: Sequence[str]) -> None:
        """Nothing that is printed counts."""

    def ended(self) -> None:
        """Nothing that is printed counts."""

    def files(self) -> list[Path]:
        """The files that match, in natural order of their names."""
        found = self.folder.glob(self.source.pattern)
        return sorted((path for path in found if path.is_file()), key=natural)

    def results(self, last: bool = False) -> list[Result] | None:
        """What the files hold."""
        if time.monotonic() < self._not_before and not last:
            return None
        paths, now = self.files(), []
        for path in paths:
            with suppress(OSError):
                known = path.stat()
                now.append((str(path), known.st_mtime_ns, known.st_size))
        # a database in its write-ahead mode changes beside its file
        if now == self._seen and self.source.kind != "mlflow":
            return None
        began = time.monotonic()
        read = {"csv": rows, "json": objects, "tensorboard": events, "mlflow": metrics}
        found: list[Result] = []
        for path in paths:
            with suppress(FileNotFoundError):
                if path.stat().st_size > MOST_BYTES and self.source.kind != "mlflow":
                    raise BadResult(f"{path.name} is larger than {MOST_BYTES // 2**20} MiB")
                found += read[self.source.kind](path, self.source.what)
        self._seen = now
        self._not_before = time.monotonic() + REST * (time.monotonic() - began)
        return found

    def missing(self) -> str:
        """What there is instead: the columns of the files, or the files of the folder."""
        paths = self.files()
        if paths and self.source.kind == "csv":
            columns = list(dict.fromkeys(name for path in paths for name in header(path)))
            return f"{paths[0].name} has the columns {', '.join(columns) or '(none)'}"
        if paths and self.source.kind == "json":
            keys = list(dict.fromkeys(name for path in paths for name in keys_of(path)))
            return f"{paths[0].name} has the keys {', '.join(keys[:12]) or '(none)'}"
        if paths:
            return f"{paths[0].name} has no {self.source.what!r}"
        there = sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and not path.relative_to(self.folder).parts[0].startswith(".")
        )
        if not there:
            return (
                f"there is no {self.source.pattern}, and nothing else in the trial's folder: does "
                "the script write to {trial_folder}?"
            )
        return f"there is no {self.source.pattern}; the trial's folder has {', '.join(there[:10])}"


def natural(path: Path) -> list[tuple[int, str]]:
    """Names with numbers in the order of the numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def whole_text(path: Path) -> str:
    """A file's text without a last line that is not whole yet."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1].decode("utf-8-sig", errors="replace")


def table(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file, blanks around the cells taken off; what parts them is read off the
    first.
    """
    delimiter, text = parted(whole_text(path))
    delimiter = "\t" if path.suffix == ".tsv" else delimiter
    lines = io.StringIO(text, newline="")
    for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
        yield [cell.strip() for cell in row]


def header(path: Path) -> list[str]:
    """The first row of a CSV file."""
    return next(table(path), [])


def rows(path: Path, column: str) -> list[Result]:
    """The results of a CSV file. A header that comes again, as of a script that was continued, is
    passed over, also where it is another one: it counts from there on.
    """
    names: list[str] = []
    found: list[Result] = []
    try:
        for row in table(path):
            if not names or column in row:
                names = row
                continue
            if len(row) > len(names) and all(cell.isdecimal() for cell in row[len(names) :]):
                refuse_split_cells(row, names, f"a row of {path.name}")
            cells = dict(zip(names, row, strict=False))
            if cells.get(column, "") != "":
                found.append(
                    (next((cells[e] for e in EPOCHS if cells.get(e)), None), cells[column])
                )
    except csv.Error as error:
        raise BadResult(f"{path.name} is no CSV file: {error}") from error
    except BadInput as error:
        raise BadResult(str(error)) from error
    return found


def objects(path: Path, key: str) -> list[Result]:
    """The results of a JSON file: objects in lines, in a list, or in a list named
    `log_history`.
    """
    found: list[Result] = []
    for entry in entries_of(path):
        if (value := at(entry, key)) is not ABSENT:
            epoch = next((entry[e] for e in EPOCHS if entry.get(e) is not None), None)
            found.append(
                (None if epoch is None else str(epoch), "nan" if value is None else str(value))
            )
    return found


def entries_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON file."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        document = json.loads(text)
        entries = document if isinstance(document, list) else [document]
        if isinstance(document, dict) and isinstance(document.get("log_history"), list):
            entries = document["log_history"]
    except ValueError:
        entries = []
        for line in whole_text(path).splitlines():
            with suppress(ValueError):  # a log may have other lines between
                entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def keys_of(path: Path) -> list[str]:
    """The keys of a JSON file's objects, keys within them with dots between."""

    def named(entry: Mapping[str, Any], before: str = "") -> Iterator[str]:
        for name, value in entry.items():
            if isinstance(value, Mapping):
                yield from named(value, f"{before}{name}.")
            else:
                yield f"{before}{name}"

    return list(dict.fromkeys(name for entry in entries_of(path) for name in named(entry)))


ABSENT = object()


def at(entry: Mapping[str, Any], key: str) -> Any:
    """The value of a key, or of keys with dots between; `ABSENT` where there is none."""
    if key in entry:
        return entry[key]
    inside: Any = entry
    for name in key.split("."):
        if not isinstance(inside, Mapping) or name not in inside:
            return ABSENT
        inside = inside[name]
    return inside


def events(path: Path, tag: str) -> list[Result]:
    """The scalars of a TensorBoard event file."""
    return [(str(step), repr(value)) for _, step, name, value in scalars(path) if name == tag]


def metrics(path: Path, key: str) -> list[Result]:
    """The values of a metric in MLflow's database, read without MLflow."""
    query = "select step, value, is_nan from metrics where key = ? order by timestamp, step"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)) as database:
            found = database.execute(query, (key,)).fetchall()
    except sqlite3.Error:  # MLflow is still making it, or writes
        return []
    return [(str(step), "nan" if is_nan else repr(value)) for step, value, is_nan in found]


@dataclass
class Curve:
    """All results of a trial, over all its runs, as epochs: result k, in the order of what the
    script calls epochs, is of epoch k. `told` is the last epoch that was given out.
    """

    keys: list[float]
    values: list[float]
    told: int = 0
    before: list[Result] = field(default_factory=list)  # what was read so far
    reported: set[float] = field(default_factory=set)  # by this run, as the script calls them

    def take(self, results: Sequence[Result]) -> list[tuple[int, float]]:
        """The (epoch, value) that are new, from `told` on without a gap. A result that is reported
        again, by a run that went on from an older checkpoint, counts unless it was given out.
        Raises `BadResult` for what is no number.
        """
        same = list(results[: len(self.before)]) == self.before
        new = results[len(self.before) :] if same else results
        out: list[tuple[int, float]] = []
        for k, (key, value) in enumerate(new, len(self.before) + 1 if same else 1):
            out += self._add(number(key, "epoch") if key is not None else float(k), value)
        self.before = list(results)
        return out

    @property
    def _spacing(self) -> float:
        """What the script counts from one epoch to the next."""
        first, last = ([0.0, *self.keys])[-2:]
        return last - first if len(self.keys) > 1 else max(1.0, last)

    def _add(self, key: float, value: str) -> list[tuple[int, float]]:
        found = number(value, "result")
        if self.keys and not self.reported and key > self.keys[-1] + 1.5 * self._spacing:
            raise Gap(f"after epoch {self.keys[-1]:g} it went on with {key:g}")
        self.reported.add(key)
        if key in self.keys:
            epoch = self.keys.index(key) + 1
            if epoch <= self.told:
                return []
            self.values[epoch - 1] = found
        elif self.keys and key < self.keys[-1]:
            return []  # between two that were reported: no epoch can be put there any more
        else:
            self.keys.append(key)
            self.values.append(found)
            epoch = len(self.keys)
        out = [(e, self.values[e - 1]) for e in range(self.told + 1, epoch + 1)]
        self.told = max(self.told, epoch)
        return out


def number(text: str, what: str) -> float:
    """A number as scripts write them: percent signs and tensors' wrappings come off, and a decimal
    comma becomes a point. Raises `BadResult`.
    """
    wrapped = re.fullmatch(r"\s*(?:tensor|np\.float\d+)\(\s*([^,()]*?)\s*(?:,[^)]*)?\)\s*", text)
    inner = (wrapped[1] if wrapped else text).strip().removesuffix("%").strip()
    try:
        value = float(with_point(inner))
    except ValueError as error:
        raise BadResult(f"the {what} {text[:60]!r} is no number") from error
    return value if math.isfinite(value) else math.nan
