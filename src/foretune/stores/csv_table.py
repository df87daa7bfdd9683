"""CSV: a row a run, or a row an epoch.

Rows are epochs where a column `epoch` or `step` rises from 0 or 1 inside each run; the runs are
told apart by a column such as `run_id`, `run`, `trial`, or by their settings. In all other tables a
row is a run. Exports of W&B (`Name, State, ..., config, summary`), MLflow (`Run ID, Status, ...`)
and Ray (`config/*`) are such tables too.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.vocabulary import PAIRS, canonical, is_nothing, normal, number, spellings
from foretune.stores.mapping import DATA_PLACES, DATASETS
from foretune.stores.metrics import understood
from foretune.stores.record import Record, Source, files_named, read_csv

IDENTITIES = ["run_id", "run", "id", "trial_id", "trial", "run_name", "name", "number", "uuid"]
UNIQUE = {"run_id", "id", "uuid"}
STATES = {"state", "status"}
SECONDS = {"runtime", "time_total_s", "duration", "seconds", "elapsed", "total_time"}
STEPS = ("epoch", "epochs_done", "training_iteration", "step", "iteration")
PARTS = re.compile(r"([\d.]+)\s*(ms|s|min|h|d)\b")
FACTORS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def read(path: Path) -> Source:
    """Read a CSV file, or all in a folder: such as Keras' CSVLogger writes, one a run.

    Raises `BadInput` for tables that are none of runs: no column is a setting, or none a metric.
    """
    if path.is_file():
        return _read_file(path)
    source = Source("csv", path.resolve().name, mixed=True)
    first: BadInput | None = None
    for file in files_named(path, "*.csv"):
        try:
            found = _read_file(file)
        except BadInput as error:
            first = first or error
            source.leave("CSV files that hold no runs")
            continue
        for record in found.records:
            record.group = source.label
        source.records += found.records
        source.axis = found.axis
    if not source.records:
        raise first or BadInput(f"{path} holds no CSV files")
    return source


def _read_file(path: Path) -> Source:
    head, rows = read_csv(path)
    source = Source("csv", path.stem, mixed=True)
    if not rows:
        raise BadInput(f"{path} has no rows")
    if head[:1] == [""] and len(head) > 1:  # the index that pandas writes
        head = head[1:]
    if long_form(head, rows):
        _read_epochs(source, head, rows)
        return source
    return read_runs(source, head, rows, path)


def long_form(head: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether rows are epochs: a column `epoch` takes values one after another more than once."""
    by_name = {normal(name): name for name in head}
    if not (column := by_name.get("epoch") or by_name.get("step")):
        return False
    steps = [number(row.get(column)) for row in rows]
    rising = sum(
        a is not None and b is not None and 0 < b - a <= 10 and b - a == round(b - a)
        for a, b in itertools.pairwise(steps)
    )
    return len(rows) > 1 and rising >= (len(rows) - 1) / 2 and steps[0] in (0, 1)


def _read_epochs(source: Source, head: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    by_name = {normal(name): name for name in head}
    column = by_name.get("epoch") or by_name["step"]
    source.axis = "epoch" if "epoch" in by_name else "step"
    marked = next((by_name[n] for n in IDENTITIES if n in by_name), None)
    constant = [n for n in head if n not in (column, marked) and not _is_result(n) and _is_param(n)]
    runs: dict[str, Record] = {}
    last, place = math.inf, 0
    for row in rows:
        step = number(row.get(column))
        if step is None:
            continue
        if marked is None and step <= last:  # counting starts again: the next run
            place += 1
        last = step
        name = str(row.get(marked)) if marked else source.label + f"-{place}" * (place > 1)
        record = runs.setdefault(name, Record(name, source.label))
        record.params |= {n: row.get(n) for n in constant if not is_nothing(row.get(n))}
        for metric in head:
            value = number(row.get(metric))
            if metric not in (column, marked, *constant) and value is not None:
                record.add(metric, step, value)
    source.records = list(runs.values())


def _is_result(name: str) -> bool:
    known = understood(name)
    return known.kind is not None or known.split != "unknown"


def _is_param(name: str) -> bool:
    spelled = spellings(name)[-1]
    named = spelled in (*DATASETS, *DATA_PLACES) or spelled in PAIRS
    return named or canonical(name) is not None


def summary_block(head: Sequence[str]) -> list[str]:
    """Columns of results at the end of a W&B export: both its blocks, config and summary, are in
    alphabetical order, so that the summary begins where the order falls for the last time.
    """
    start = 0
    for k in range(1, len(head)):
        if head[k].lower() < head[k - 1].lower():
            start = k
    block = list(head[start:])
    return block if any(understood(n).kind for n in block) and start else []


def read_runs(
    source: Source, head: Sequence[str], rows: Sequence[Mapping[str, str]], path: Path
) -> Source:
    """A row a run."""
    by_name = {normal(name): name for name in reversed(head)}
    names = [by_name[n] for n in IDENTITIES if n in by_name]
    identity = next((n for n in names if _distinct(rows, n)), None)
    state = next((by_name[n] for n in STATES if n in by_name), None)
    seconds = next((by_name[n] for n in SECONDS if n in by_name), None)
    nested = any(n.startswith("config/") for n in head)
    block = set(summary_block(head)) if {"Name", "State"} <= set(head) else set()
    apart = {identity, state, seconds}
    params: list[str] = []
    results: list[str] = []
    for name in head:
        if name in apart:
            continue
        if nested:
            (params if name.startswith("config/") else results).append(name)
        elif name in block or (_is_result(name) and not canonical(name)) or normal(name) in STEPS:
            results.append(name)
        else:
            params.append(name)
    if not any(understood(n).kind for n in results):
        raise BadInput(
            f"{path} holds no runs: none of its columns is a metric ({', '.join(head[:8])})"
        )
    if not any(_is_param(n) for n in params):
        raise BadInput(
            f"{path} holds no runs: none of its columns is a setting ({', '.join(head[:8])})"
        )
    unique = identity is not None and normal(identity) in UNIQUE
    for k, row in enumerate(rows):
        name = str(row[identity]) if identity else f"row-{k + 1}"
        record = Record(name, source.label, unique=unique)
        record.params = {n: row.get(n) for n in params if not is_nothing(row.get(n))}
        record.state = str(row.get(state) or "finished").lower() if state else "finished"
        record.seconds = duration(row.get(seconds)) if seconds else None
        for metric in results:
            value = number(row.get(metric))
            if value is not None:
                record.add(metric, math.nan, value)
        source.records.append(record)
    return source


def _distinct(rows: Sequence[Mapping[str, str]], name: str) -> bool:
    values = [row.get(name) for row in rows]
    return len(set(values)) == len(values) and all(v not in (None, "") for v in values)


def duration(value: str | None) -> float | None:
    """Seconds from a number, or from a text such as `7.2min`."""
    found = number(value)
    if found is not None or value is None:
        return found
    parts = PARTS.findall(value)
    return sum(float(n) * FACTORS[unit] for n, unit in parts) if parts else None
