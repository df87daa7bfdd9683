"""Weights & Biases without an account: the CSV export of a project, local run folders
(`wandb/run-*` with `run-ID.wandb`, `files/config.yaml` and `files/wandb-summary.json`), and the
parquet of a run's history (artifact `RUN-history:v0`).

A summary holds the last values of a run, not its best; the curve is in the log and in the parquet.
Values of config.yaml stand under `value`; numbers such as `5e-05` are texts in YAML.
"""

import math
import re
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.stores import csv_table, wandb_log
from foretune.stores.record import (
    Record,
    Source,
    files_named,
    finite,
    flat,
    json_number,
    read_csv,
    read_json,
    read_yaml,
)

FOLDER = re.compile(r"^(?:offline-)?run-\d{8}_\d{6}-(\w+)$")
HISTORY = re.compile(r"(?:run-)?(\w+)[-_]history")


def read(path: Path) -> Source:
    """Read an export or run folders. Raises `BadInput`."""
    if path.is_file() and path.suffix.lower() == ".csv":
        head, rows = read_csv(path)
        if not {"Name", "State"} <= set(head):
            raise BadInput(f"{path} is no export of a W&B project: it has no columns Name, State")
        return csv_table.read_runs(Source("wandb", path.stem, mixed=True), head, rows, path)
    folders = [p for p in sorted(path.rglob("*run-*")) if p.is_dir() and FOLDER.match(p.name)]
    if path.is_dir() and FOLDER.match(path.name):
        folders = [path]
    histories = [path] if path.suffix == ".parquet" else list(files_named(path, "*.parquet"))
    if not folders and not histories:
        raise BadInput(f"{path} holds no CSV export, no folder run-DATE-ID and no history of W&B")
    source = Source("wandb", path.resolve().name)
    records = {r.name: r for r in map(_record, folders)}
    for file in histories:
        _add_history(records, file)
    source.records = list(records.values())
    return source


def _record(folder: Path) -> Record:
    found = FOLDER.match(folder.name)
    record = Record(found[1] if found else folder.name, unique=True)
    config, summary = folder / "files" / "config.yaml", folder / "files" / "wandb-summary.json"
    if config.is_file():
        for name, value in read_yaml(config).items():
            if name in ("_wandb", "wandb_version"):
                continue
            inner = value["value"] if isinstance(value, dict) and "value" in value else value
            record.params |= flat({name: inner})
    record.params = {k: v for k, v in record.params.items() if v is not None}
    facts: Any = read_json(summary) if summary.is_file() else {}
    facts = flat(facts) if isinstance(facts, dict) else {}
    record.seconds = finite(facts.get("_wandb.runtime"))
    logs = sorted(folder.glob("run-*.wandb"))
    if logs:
        wandb_log.fill(record, logs[0])
    if record.series:
        return record
    for name, logged in facts.items():
        value = json_number(logged)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not name.startswith("_"):
            record.add(name, math.nan, value)
    return record


def _add_history(records: dict[str, Record], file: Path) -> None:
    """The curves of one run; raises `BadInput` for a parquet file without `_step`."""
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as parquet:
            table = parquet.read()
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    if "_step" not in table.column_names:
        raise BadInput(f"{file} is no history of W&B: it has no column _step")
    found = HISTORY.search(file.stem) or HISTORY.search(file.parent.name)
    name = found[1] if found else file.parent.name if file.stem.isdigit() else file.stem
    record = records.setdefault(name, Record(name, unique=True))
    steps = table.column("_step").to_pylist()
    for metric in table.column_names:
        values = table.column(metric).to_pylist()
        if metric.startswith("_") or not any(isinstance(v, int | float) for v in values):
            continue
        record.series[metric] = [
            (float(s), float(v))
            for s, v in zip(steps, values, strict=True)
            if s is not None and isinstance(v, int | float) and not isinstance(v, bool)
        ]
