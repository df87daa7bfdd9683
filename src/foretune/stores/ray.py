"""Ray Tune: trial folders with `params.json` and `result.json` (JSON lines) or `progress.csv`; or
the CSV of `ResultGrid.get_dataframe()`, with settings as `config/*`.

Pickles (`params.pkl`, `searcher-state.pkl`, `tuner.pkl`) stay closed. `done` is False on trials
that a scheduler ended and says nothing.
"""

import json
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.history.vocabulary import number
from foretune.stores import csv_table
from foretune.stores.record import (
    Record,
    Source,
    files_named,
    flat,
    read_csv,
    read_json,
    read_text,
)

STEP = "training_iteration"
SILENT = {
    "done",
    "timestamp",
    "time_this_iter_s",
    "time_total_s",
    "pid",
    "hostname",
    "node_ip",
    "time_since_restore",
    "date",
    "iterations_since_restore",
    "trial_id",
    "experiment_id",
    "experiment_tag",
    "timesteps_total",
    "episodes_total",
    "checkpoint_dir_name",
    "should_checkpoint",
    "warmup_time",
}


def read(path: Path) -> Source:
    """Read trial folders or a data frame's CSV. Raises `BadInput`."""
    if path.is_file():
        head, rows = read_csv(path)
        if not any(name.startswith("config/") for name in head):
            raise BadInput(f"{path} is no table of Ray Tune: it has no column config/*")
        head = [n for n in head if n not in SILENT - {"trial_id", "time_total_s"} and n]
        return csv_table.read_runs(Source("ray", path.parent.name, first=1), head, rows, path)
    folders = sorted({f.parent for f in files_named(path, "params.json")})
    if not folders:
        raise BadInput(f"{path} holds no trials of Ray Tune (params.json beside result.json)")
    source = Source("ray", path.resolve().name, first=1)
    for folder in folders:
        record = Record(folder.name, folder.parent.name)
        settings = read_json(folder / "params.json")
        if not isinstance(settings, dict):
            source.leave("folders whose params.json holds no settings")
            continue
        record.params = {k: v for k, v in flat(settings).items() if v is not None}
        for row in _rows(folder):
            step = number(row.get(STEP)) or float(len(next(iter(record.series.values()), ())) + 1)
            if row.get("trial_id"):
                record.name, record.unique = str(row["trial_id"]), True
            record.seconds = number(row.get("time_total_s")) or record.seconds
            for name, value in row.items():
                told = name.startswith("config/") or name in SILENT or name == STEP
                if not told and not isinstance(value, bool) and number(value) is not None:
                    record.add(name, step, number(value))
        source.records.append(record)
    return source


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = folder / "result.json"
    if lines.is_file():
        out = []
        for line in read_text(lines).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last line of a trial that was killed
            if isinstance(row, dict):
                row.pop("config", None)
                out.append(flat(row))
        return out
    table = folder / "progress.csv"
    return [dict(row) for row in read_csv(table)[1]] if table.is_file() else []
