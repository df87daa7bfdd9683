"""Optuna's journal file: JSON lines with operation codes.

0 create study, 4 create trial, 5 set a parameter, 6 set state and values, 7 set an intermediate
value; others (attributes, deletion 1) carry no run. Studies and trials are numbered in the order in
which they were created; a study that is created again under its name is the same. States: 0
running, 1 complete, 2 pruned, 3 fail, 4 waiting; directions: 1 minimize, 2 maximize.
"""

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.stores.optuna_database import VALUE, decoded, settle
from foretune.stores.record import Record, Source, read_text

STATES = {0: "running", 1: "complete", 2: "pruned", 3: "fail", 4: "waiting"}
DIRECTIONS = {1: "minimize", 2: "maximize"}


def read(path: Path) -> Source:
    """Read a journal. Raises `BadInput` for a file that is none."""
    source = Source("optuna", path.stem)
    studies: list[tuple[str, list[int]]] = []
    trials: list[Record] = []
    counts: dict[int, int] = {}
    started: dict[int, str] = {}
    finals: dict[str, float] = {}
    deleted: set[int] = set()
    owner: list[int] = []
    lines = read_text(path).splitlines()
    for k, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            code = entry["op_code"]
        except (ValueError, TypeError, KeyError) as error:
            if k and k == len(lines) - 1:
                continue  # the last line of a process that was killed
            raise BadInput(f"{path}: line {k + 1} is none of an Optuna journal") from error
        if code == 0:
            if entry["study_name"] not in [name for name, _ in studies]:
                studies.append((entry["study_name"], entry.get("directions", [])))
        elif code == 1:
            deleted.add(entry["study_id"])
        elif code == 4:
            study = entry["study_id"]
            number = counts[study] = counts.get(study, -1) + 1
            name = studies[study][0]
            record = Record(f"{name}/{number}", name, state=STATES.get(entry.get("state", 0), ""))
            started[len(trials)] = entry.get("datetime_start") or ""
            owner.append(study)
            trials.append(record)
            _fill(record, entry, finals)
        elif code == 5:
            value = decoded(entry["param_value_internal"], json.loads(entry["distribution"]))
            trials[entry["trial_id"]].params[entry["param_name"]] = value
        elif code == 6:
            record = trials[entry["trial_id"]]
            record.state = STATES.get(entry.get("state", 1), "complete")
            record.seconds = _seconds(
                started[entry["trial_id"]], entry.get("datetime_complete") or ""
            )
            _fill(record, entry, finals)
        elif code == 7:
            value = entry.get("intermediate_value")
            record = trials[entry["trial_id"]]
            record.add(VALUE, float(entry["step"]), math.nan if value is None else value)
    kept = [r for r, study in zip(trials, owner, strict=True) if study not in deleted]
    several = {name for name, directions in studies if len(directions) > 1}
    source.records = [r for r in kept if r.group not in several]
    if len(kept) > len(source.records):
        source.leave("trials of studies with several objectives", len(kept) - len(source.records))
    ways = {DIRECTIONS.get(d[0], "") for _, d in studies if len(d) == 1}
    if len(ways) > 1:
        raise BadInput(f"{path} holds studies to maximize and to minimize; export them apart")
    source.goals = dict.fromkeys([VALUE], ways.pop()) if ways else {}
    settle(source, finals)
    return source


def _fill(record: Record, entry: dict[str, Any], finals: dict[str, float]) -> None:
    """Values of a trial that was written with them (state 1: complete, 2: pruned with its last)."""
    values = entry.get("values")
    if values and len(values) == 1 and values[0] is not None:
        finals[record.name] = float(values[0])


def _seconds(start: str, end: str) -> float | None:
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except ValueError:
        return None
