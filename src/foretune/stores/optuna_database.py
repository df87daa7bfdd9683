"""Optuna's SQL storage (SQLite): studies, trials, parameters with their distributions.

Categorical parameters are stored as the index of the choice in `distribution_json`. A study is a
task unless a parameter names one; its direction is known. Intermediate values are a learning curve
only where their steps look like epochs (`curve_like`): some report a fold of a cross-validation.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.stores.record import Point, Record, Source
from foretune.stores.sqlite import connect, tables

NEEDED = {"studies", "study_directions", "trials", "trial_params", "trial_values"}
VALUE = "value"
MOST_FOLDS = 10


def decoded(internal: float, distribution: Any) -> Any:
    """A parameter from its internal number and its distribution."""
    kind, facts = distribution.get("name", ""), distribution.get("attributes", {})
    if kind == "CategoricalDistribution":
        choices = facts.get("choices", [])
        return choices[int(internal)] if 0 <= int(internal) < len(choices) else None
    if kind.startswith("Int"):
        return int(internal)
    return internal


def curve_like(curves: Sequence[Sequence[Point]]) -> bool:
    """Whether intermediate values are learning curves.

    Folds of a cross-validation are few, equally many in every trial, and their values do not move
    with the step: over all trials the first is above the last about as often as below.
    """
    several = [curve for curve in curves if len(curve) > 1]
    if not several:
        return bool(curves)
    lengths = {len(curve) for curve in curves}
    if len(lengths) > 1 or max(lengths) > MOST_FOLDS or len(several) < 5:
        return True
    up = sum(curve[-1][1] > curve[0][1] for curve in several)
    spread = 1.5 * math.sqrt(len(several))  # three standard deviations of a fair coin
    moved = abs(up - len(several) / 2) > spread
    # folds differ in difficulty, alike for all trials; a curve gets better by more than that
    firsts = sorted(curve[0][1] for curve in several)
    middle = firsts[len(firsts) // 2]
    gain = sum(curve[-1][1] - curve[0][1] for curve in several) / len(several)
    between = sum(abs(first - middle) for first in firsts) / len(firsts)
    return moved and abs(gain) > 0.25 * between


def settle(source: Source, finals: dict[str, float]) -> None:
    """Join curves and final values: the value of a trial is what the study counted, not the best of
    its curve."""
    curves = [r.series[VALUE] for r in source.records if r.series.get(VALUE)]
    learning = curve_like(curves)
    if curves and not learning:
        source.notes.append(
            "the intermediate values do not change with the step (folds of a cross-validation, "
            "say): only final values are taken"
        )
    for record in source.records:
        points = record.series.get(VALUE, [])
        final = finals.get(record.name)
        if not learning or not points:
            record.series.pop(VALUE, None)
            if final is not None:
                record.add(VALUE, math.nan, final)
        record.value = final
    source.objective = VALUE
    source.axis = "epoch"


def read(path: Path) -> Source:
    """Read all studies of one objective. Raises `BadInput` for another database."""
    if lacking := NEEDED - tables(path):
        raise BadInput(f"{path} is no storage of Optuna: it has no table {min(lacking)}")
    source = Source("optuna", path.parent.name or path.stem)
    finals: dict[str, float] = {}
    with connect(path) as connection:
        directions: dict[int, list[str]] = {}
        for study, direction in connection.execute(
            "SELECT study_id, direction FROM study_directions ORDER BY objective"
        ):
            directions.setdefault(study, []).append(str(direction).lower())
        names = dict(connection.execute("SELECT study_id, study_name FROM studies"))
        if len({d[0] for d in directions.values() if len(d) == 1}) > 1:
            raise BadInput(f"{path} holds studies to maximize and to minimize; export them apart")
        trials: dict[int, Record] = {}
        for trial, number, study, state, seconds in connection.execute(
            "SELECT trial_id, number, study_id, state,"
            " (julianday(datetime_complete) - julianday(datetime_start)) * 86400 FROM trials"
        ):
            if len(directions.get(study, ())) != 1:
                source.leave("trials of studies with several objectives")
                continue
            source.goals[VALUE] = directions[study][0]
            record = Record(f"{names[study]}/{number}", names[study], state=str(state).lower())
            record.seconds = seconds
            trials[trial] = record
        for trial, name, value, distribution in connection.execute(
            "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params"
        ):
            if trial in trials:
                trials[trial].params[name] = decoded(value, json.loads(distribution))
        columns = {row[1] for row in connection.execute("PRAGMA table_info(trial_values)")}
        kind = "value_type" if "value_type" in columns else "NULL"
        for trial, value, what in connection.execute(
            f"SELECT trial_id, value, {kind} FROM trial_values"
        ):
            if trial in trials:
                finals[trials[trial].name] = {"INF_POS": math.inf, "INF_NEG": -math.inf}.get(
                    what, value
                )
        if "trial_intermediate_values" in tables(path):
            for trial, step, value in connection.execute(
                "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"
                " ORDER BY step"
            ):
                if trial in trials:
                    trials[trial].add(VALUE, float(step), math.nan if value is None else value)
    source.records = list(trials.values())
    settle(source, finals)
    return source
