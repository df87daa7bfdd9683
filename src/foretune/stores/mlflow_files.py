"""MLflow's folders, `mlruns/EXPERIMENT/RUN/{meta.yaml,params,metrics,tags}`, as before MLflow 3.

A metric's file has a line `timestamp value step` each value. Runs and experiments with
`lifecycle_stage: deleted` are left out; `mlruns/models` and `.trash` hold no runs.
"""

import math
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.vocabulary import number
from foretune.stores.record import MAX_BYTES, Record, Source, read_text, read_yaml

STATES = {1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed"}
PARENT = "mlflow.parentRunId"


def find(path: Path) -> Path | None:
    """The folder of experiments in or at `path`."""
    for folder in (path / "mlruns", path):
        if folder.is_dir() and next(folder.glob("*/*/meta.yaml"), None):
            return folder
    return None


def read(path: Path) -> Source:
    """Read all runs. Raises `BadInput` for a folder that is none of MLflow's."""
    folder = find(path)
    if folder is None:
        raise BadInput(f"{path} holds no mlruns folder of MLflow (EXPERIMENT/RUN/meta.yaml)")
    source = Source("mlflow", path.name if path.name != "mlruns" else path.resolve().parent.name)
    for experiment in sorted(p for p in folder.iterdir() if (p / "meta.yaml").is_file()):
        if experiment.name in ("models", ".trash"):
            continue
        facts = read_yaml(experiment / "meta.yaml")
        group = str(facts.get("name") or experiment.name)
        for file in sorted(experiment.glob("*/meta.yaml")):
            meta = read_yaml(file)
            if "run_id" not in meta and "run_uuid" not in meta:
                continue
            if "deleted" in (facts.get("lifecycle_stage"), meta.get("lifecycle_stage")):
                source.leave("runs that were deleted in MLflow")
                continue
            source.records.append(_record(file.parent, meta, group))
    return source


def _record(folder: Path, meta: dict[str, object], group: str) -> Record:
    name = str(meta.get("run_id") or meta.get("run_uuid"))
    record = Record(name, "" if group == "Default" else group, unique=True)
    status = meta.get("status")
    record.state = (
        STATES.get(status, "finished") if isinstance(status, int) else str(status).lower()
    )
    start, end = meta.get("start_time"), meta.get("end_time")
    if isinstance(start, int) and isinstance(end, int) and end >= start:
        record.seconds = (end - start) / 1000
    for file in _files(folder / "params"):
        record.params[file.relative_to(folder / "params").as_posix()] = read_text(file).strip()
    for file in _files(folder / "metrics"):
        metric = file.relative_to(folder / "metrics").as_posix()
        for line in read_text(file).splitlines(keepends=True):
            parts = line.split()
            if len(parts) == 2 and line.endswith("\n"):  # MLflow before 1.0 wrote no step
                parts.append("0")
            step = number(parts[2]) if len(parts) == 3 else None
            if step is not None:  # otherwise torn by a kill
                record.add(metric, step, parts[1])
    without_steps(record)
    parent = folder / "tags" / PARENT
    if parent.is_file() and parent.stat().st_size < MAX_BYTES:
        record.parent = read_text(parent).strip()
    return record


def without_steps(record: Record) -> None:
    """Values that were logged without a step, for which MLflow writes 0: one is a final value,
    several are counted in their order.
    """
    for name, points in record.series.items():
        if any(step for step, _ in points):
            continue
        record.series[name] = (
            [(math.nan, points[0][1])]
            if len(points) == 1
            else [(float(k), value) for k, (_, value) in enumerate(points)]
        )


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
