"""KerasTuner: `trial_*/trial.json` and `oracle.json`.

A trial holds its best or last value, no curve. `tuner/*` is bookkeeping of Hyperband:
`tuner/epochs` is how far the trial went, `tuner/trial_id` the trial that it continues.
"""

import math
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.stores.record import Record, Source, files_named, finite, read_json

DIRECTIONS = {"min": "minimize", "max": "maximize"}


def read(path: Path) -> Source:
    """Read all trials under a folder.

    Raises `BadInput` where there is none; AutoKeras keeps the settings that it tried without
    scores.
    """
    files = list(files_named(path, "trial.json")) if path.is_dir() else []
    oracles = list(files_named(path, "oracle.json")) if path.is_dir() else []
    if not files and oracles:
        raise BadInput(
            f"{path} holds 0 trials: oracle.json has the settings that were tried, but no scores"
        )
    if not files:
        raise BadInput(f"{path} holds no trial_*/trial.json of KerasTuner")
    source = Source("keras-tuner", path.resolve().name, axis="none", trainer="keras-tuner")
    for file in oracles:
        objective = read_json(file).get("objective")
        if isinstance(objective, dict) and objective.get("name"):
            source.objective = str(objective["name"])
            source.goals[source.objective] = DIRECTIONS.get(str(objective.get("direction")), "")
    for file in files:
        source.records.append(_record(file, source))
    furthest = max((r.last_epoch or 0.0 for r in source.records), default=0.0)
    continued = 0
    for record in source.records:
        if record.last_epoch is not None:
            record.planned = furthest
            continued += bool(record.parent)
    if continued:
        source.notes.append(f"{continued} trials continue an earlier one (Hyperband)")
    source.goals = {name: goal for name, goal in source.goals.items() if goal}
    return source


def _record(file: Path, source: Source) -> Record:
    trial = read_json(file)
    if not isinstance(trial, dict) or "hyperparameters" not in trial:
        raise BadInput(f"{file} is no trial of KerasTuner")
    record = Record(str(trial.get("trial_id", file.parent.name)))
    record.state = str(trial.get("status", "completed")).lower()
    values: dict[str, Any] = trial["hyperparameters"].get("values", {})
    record.params = {k: v for k, v in values.items() if not k.startswith("tuner/")}
    record.last_epoch = finite(values.get("tuner/epochs"))
    record.parent = str(values.get("tuner/trial_id") or "")
    metrics = (trial.get("metrics") or {}).get("metrics", {})
    for name, entry in metrics.items():
        source.goals.setdefault(name, DIRECTIONS.get(str(entry.get("direction")), ""))
        for observation in entry.get("observations", ()):
            for value in observation.get("value", ())[:1]:
                record.add(name, math.nan, value)
    return record
