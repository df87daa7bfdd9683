"""MLflow's SQLite database (`mlflow.db`), MLflow 1.20 to 3.

Tables experiments, runs, params, metrics (key, value, step, is_nan), tags. Deleted runs and
experiments are left out. Tables of registered models, traces and secrets are not looked at.
"""

import math
from pathlib import Path

from foretune.errors import BadInput
from foretune.stores.mlflow_files import PARENT, without_steps
from foretune.stores.record import Record, Source
from foretune.stores.sqlite import connect, tables

NEEDED = {"experiments", "runs", "params", "metrics", "tags"}


def read(path: Path) -> Source:
    """Read all runs. Raises `BadInput` for a database that is none of MLflow's."""
    if lacking := NEEDED - tables(path):
        raise BadInput(f"{path} is no database of MLflow: it has no table {min(lacking)}")
    source = Source("mlflow", path.parent.name or path.stem)
    records: dict[str, Record] = {}
    with connect(path) as connection:
        rows = connection.execute(
            "SELECT r.run_uuid, r.status, r.start_time, r.end_time, r.lifecycle_stage, e.name,"
            " e.lifecycle_stage FROM runs r JOIN experiments e USING (experiment_id)"
            " ORDER BY r.start_time, r.run_uuid"
        )
        for name, status, start, end, stage, group, group_stage in rows:
            if "deleted" in (stage, group_stage):
                source.leave("runs that were deleted in MLflow")
                continue
            record = Record(name, "" if group == "Default" else group, unique=True)
            record.state = str(status).lower()
            if start is not None and end is not None and end >= start:
                record.seconds = (end - start) / 1000
            records[name] = record
        for name, key, value in connection.execute("SELECT run_uuid, key, value FROM params"):
            if name in records:
                records[name].params[key] = value
        for name, key, step, value, is_nan in connection.execute(
            "SELECT run_uuid, key, step, value, is_nan FROM metrics ORDER BY step, timestamp"
        ):
            if name in records:
                records[name].add(key, float(step or 0), math.nan if is_nan else value)
        for name, value in connection.execute(
            "SELECT run_uuid, value FROM tags WHERE key = ?", (PARENT,)
        ):
            if name in records:
                records[name].parent = value
    source.records = list(records.values())
    for record in source.records:
        without_steps(record)
    return source
