"""Parquet files of neptune-exporter: a row an attribute and step.

Columns project_id, run_id, attribute_path, attribute_type, step, and a column a type: int_value,
float_value, string_value, bool_value. Attributes under `sys/`, `monitoring/` and `source_code/` are
bookkeeping. Settings are the attributes with one value, metrics the `float_series`.
"""

import math
import re
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.stores.metrics import understood
from foretune.stores.record import Record, Source, files_named

NEEDED = ("run_id", "attribute_path", "attribute_type")
WANTED = (
    *NEEDED,
    "project_id",
    "step",
    "int_value",
    "float_value",
    "string_value",
    "bool_value",
)
BOOKKEEPING = re.compile(r"^(?:sys|monitoring|source_code|artifacts|model_checkpoints)/")


def read(path: Path) -> Source:
    """Read all runs of one file or of a folder of them. Raises `BadInput`."""
    from pyarrow.parquet import ParquetFile

    files = [path] if path.is_file() else list(files_named(path, "*.parquet"))
    if not files:
        raise BadInput(f"{path} holds no parquet files of neptune-exporter")
    source = Source("neptune", path.resolve().stem)
    runs: dict[str, Record] = {}
    for file in files:
        try:
            with ParquetFile(file) as parquet:
                names = parquet.schema_arrow.names
                if lacking := [n for n in NEEDED if n not in names]:
                    raise BadInput(f"{file} is no export of Neptune: it lacks {lacking[0]}")
                table = parquet.read(columns=[n for n in WANTED if n in names])
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error}") from error
        for row in table.to_pylist():
            _add(runs, row)
    for record in runs.values():
        for points in record.series.values():
            points.sort(key=lambda point: point[0])
    source.records = list(runs.values())
    return source


def _add(runs: dict[str, Record], row: dict[str, Any]) -> None:
    name, attribute = str(row["run_id"]), str(row["attribute_path"])
    project = str(row.get("project_id") or "").split("/")[-1]
    record = runs.setdefault(name, Record(name, project, unique=True))
    kind = str(row["attribute_type"])
    value = next(
        (
            row[key]
            for key in ("float_value", "int_value", "bool_value", "string_value")
            if row.get(key) is not None
        ),
        None,
    )
    if attribute == "sys/running_time" and isinstance(value, int | float):
        record.seconds = float(value)
    elif attribute == "sys/failed" and value is True:
        record.state = "failed"
    elif BOOKKEEPING.match(attribute) or value is None:
        return
    elif kind == "float_series":
        step = row.get("step")
        record.add(attribute, math.nan if step is None else float(step), value)
    elif kind in ("float", "int") and understood(attribute).split in ("valid", "test", "train"):
        record.add(attribute, math.nan, value)
    elif kind in ("float", "int", "string", "bool"):
        record.params[attribute] = value
