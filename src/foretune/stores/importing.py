"""From records of a source to rows of a run store, by its mapping.

Per run: its columns in their units, its curve over epochs, its best and last value, and how it
ended. What looks wrong is counted and said, never silently repaired: values outside a column's
range, penalties returned as values, copies of a run, runs without the metric.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foretune.history.alignment import FEWEST, best_so_far, padded_tails, scores
from foretune.history.columns import COLUMNS
from foretune.history.runs import FACTS, NUMBERS, RunStore, run_id
from foretune.history.trainers import trainer_of
from foretune.history.vocabulary import (
    EXTRA,
    canonical,
    flag,
    is_nothing,
    number,
    parse,
    sequence,
    spellings,
    switches,
)
from foretune.stores.epochs import epochs_of, last_epoch
from foretune.stores.findings import Findings
from foretune.stores.mapping import (
    NameMapping,
    plain_name,
    private,
    task_name,
)
from foretune.stores.metrics import MINIMIZED, SHARES, Goal, understood
from foretune.stores.record import Point, Record, Source

if TYPE_CHECKING:
    import pandas as pd

ABSURD_LOSS = 1e6  # a mean loss of a classifier that is larger has diverged
FEWEST_COPIED = 3  # values of a curve that must agree for a run to be a copy
UNFINISHED = {"running", "scheduled", "unfinished", "pending", "waiting", "initiated", "preempted"}
STOPPED = {"failed", "fail", "crashed", "killed", "error", "pruned", "stopped", "invalid"}


@dataclass
class _Run:
    """A run on its way: facts, columns, and its curve by epoch."""

    facts: dict[str, Any]
    columns: dict[str, Any]
    curve: dict[float, dict[str, float]]
    series: list[Point]
    lone: bool  # its value is all that was logged
    content: str  # all that was logged, to tell a copy by


def import_runs(source: Source, mapping: NameMapping) -> tuple[RunStore, Findings]:
    """The runs of a source as a store, and what was found on the way."""
    findings = Findings(source, mapping)
    goal = mapping.goal
    source.trainer = source.trainer or trainer_of(mapping.columns)
    runs = [_run(record, source, mapping, findings) for record in source.records]
    _mark_penalties(runs, goal, findings)
    kept = _without_copies(runs, findings)
    _distinct(kept)
    sign = 1.0 if goal.goal == "maximize" else -1.0
    for run in runs:
        facts = run.facts
        findings.runs += 1
        findings.states[facts["state"]] += 1
        if network := run.columns.get("network"):
            findings.networks[network] += 1
        value = facts["value"]
        if math.isnan(value):
            findings.without += 1
            continue
        findings.with_metric += 1
        findings.tasks[facts["task"] or "not named"] += 1
        if facts["state"] != "failed" and (
            findings.best is None or sign * value > sign * findings.best
        ):
            findings.best, findings.best_run = value, facts["source_id"]
        if findings.worst is None or sign * value < sign * findings.worst:
            findings.worst = value
    table = _table(kept)
    findings.constant = sum(table[c].nunique() < 2 for c in table if str(c).startswith(EXTRA))
    about = {"name": source.label, "sources": [f"{source.format}:{source.label}"]}
    store = RunStore(table, _curves(kept, goal), about, mapping.text())
    findings.padded = len(padded_tails(store.runs, store.curves))
    findings.rising = len(best_so_far(store.runs, store.curves))
    scored = scores(store.runs)
    chosen = scored["selected"] & (scored["size"] >= FEWEST)
    findings.selected = scored.loc[chosen, "task"].nunique()
    return store, findings


def _run(record: Record, source: Source, mapping: NameMapping, findings: Findings) -> _Run:
    goal = mapping.goal
    columns = _columns(record, mapping, findings)
    planned = record.planned or columns.get("epochs") or math.nan
    epochs = epochs_of(record, source, planned, findings)
    values = record.series.get(goal.metric, [])
    series = [(epochs(step), value * goal.factor) for step, value in values]
    curve = {epoch: {goal.canonical: value} for epoch, value in series if not math.isnan(epoch)}
    if not mapping.curve:
        curve = {}
    _add_other_metrics(record, goal, epochs, curve)
    finite = [v for _, v in series if math.isfinite(v)]
    done = max((e for e in curve if math.isfinite(curve[e][goal.canonical])), default=math.nan)
    if math.isnan(done) and record.last_epoch is not None:
        done = record.last_epoch
    elif math.isnan(done):
        done = last_epoch(record, source, planned)
    best = (max if goal.goal == "maximize" else min)(finite, default=math.nan)
    if record.value is not None and math.isfinite(record.value):
        best = record.value * goal.factor
    state = _state(record, series, done, planned)
    if not finite and findings.mapping.goal.metric not in record.series and record.series:
        findings.other_metrics += 1
    identity: list[Any] = [source.format, record.name]
    if not record.unique:
        starts = {name: points[0] for name, points in record.series.items() if len(points) > 1}
        identity += [record.params, sorted(starts.items())]
    facts = {
        "run_id": run_id(*identity),
        "task": _task(record, source, mapping),
        "source": f"{source.format}:{source.label}",
        "source_id": plain_name(record.name),
        "trainer": source.trainer,
        "state": state,
        "metric": goal.canonical,
        "goal": goal.goal,
        "unit": "share" if goal.unit else "",
        "split": goal.split,
        "value": best,
        "last": finite[-1] if finite else math.nan,
        "epochs_planned": float(planned),
        "epochs_done": float(done),
        "seconds": math.nan if record.seconds is None else float(record.seconds),
        "parent": record.parent,
    }
    lone = len(record.series) == 1 and len(series) == 1
    copied = len(series) >= FEWEST_COPIED and not record.unique
    logged = sorted(record.series.items()) if copied else []
    content = repr((facts["task"], record.seconds, logged)) if logged else ""
    return _Run(facts, columns, dict(sorted(curve.items())), series, lone, content)


def _columns(record: Record, mapping: NameMapping, findings: Findings) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, column in mapping.columns.items():
        if not column:
            break  # those that are left out stand last
        value = record.params.get(name)
        if name not in record.params or (is_nothing(value) and not _says_off(column)):
            continue
        if "+" in column:
            pair = sequence(value) or []
            for part, inner in zip(column.split("+"), pair, strict=False):
                if (found := _parsed(part, inner, 1.0, findings)) is not None:
                    out.setdefault(part, found)
        elif column.startswith(EXTRA):
            out.setdefault(column, _plain(value))
        else:
            known = canonical(name)
            factor = known[1] if known and known[0] == column else 1.0
            found = _parsed(column, value, factor, findings)
            if found is not None and out.setdefault(column, found) != found:
                findings.differing[column] += 1
    for name, value in record.params.items():
        switched = switches().get(spellings(name)[-1])
        if switched and flag(value) is False:
            out[switched] = COLUMNS[switched].off
    return out


def _says_off(column: str) -> bool:
    """Whether "none" is a value of a column: a policy of augmentation, not a learning rate."""
    return column in COLUMNS and COLUMNS[column].kind == "category"


def _parsed(column: str, value: Any, factor: float, findings: Findings) -> Any:
    kept = column == "network" or COLUMNS[column].kind != "category"
    if not kept and private(value):
        findings.implausible[column] += 1
        return None
    try:
        return parse(column, value, factor)
    except ValueError:
        findings.implausible[column] += 1
        return None


def _plain(value: Any) -> Any:
    """A value of an unknown column: a number, a truth value, or a text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    found = number(value)
    if found is not None:
        return found if math.isfinite(found) else None
    return json.dumps(value, default=str) if isinstance(value, list | tuple) else str(value).strip()


def _task(record: Record, source: Source, mapping: NameMapping) -> str | None:
    if mapping.task.startswith("="):
        return mapping.task[1:]
    if mapping.task:
        named = task_name(record.params.get(mapping.task))
        return named or (plain_name(record.group or source.label) if record.series else None)
    return plain_name(record.group or source.label)


def _add_other_metrics(
    record: Record, goal: Goal, epochs: Any, curve: dict[float, dict[str, float]]
) -> None:
    """The other understood metrics, at the epochs at which the goal was measured."""
    for name, points in record.series.items():
        known = understood(name)
        if name == goal.metric or known.kind is None or known.strange or known.split == "unknown":
            continue
        largest = max((v for _, v in points if math.isfinite(v)), default=0.0)
        percent = goal.unit == "percent" and known.kind in SHARES and 1.5 < largest <= 100
        for step, value in points:
            row = curve.get(epochs(step))
            if row is not None and known.canonical != goal.canonical:
                row[known.canonical] = value * (0.01 if percent else 1.0)


def _state(record: Record, series: list[Point], done: float, planned: float) -> str:
    finite = [v for _, v in series if math.isfinite(v)]
    losses = [
        value
        for name, points in record.series.items()
        if understood(name).kind in MINIMIZED
        for _, value in points[-1:]
    ]
    gone = any(not math.isfinite(v) or abs(v) > ABSURD_LOSS for v in losses)
    if len(finite) < len(series) or (gone and (finite or losses)):
        return "diverged"
    if not finite:
        return "running" if record.state in UNFINISHED else "failed"
    if done >= planned - 0.5:
        return "complete"
    if record.state in UNFINISHED:
        return "running"
    if record.state in STOPPED or done < planned - 0.5:
        return "cut"
    return "complete"


def _mark_penalties(runs: list[_Run], goal: Goal, findings: Findings) -> None:
    """Runs whose one value is a round number that several share at the bad end: a failure that was
    returned as a value (0 for an accuracy, 1000 for an error).
    """
    single = [r for r in runs if r.lone and math.isfinite(r.facts["value"])]
    counts = Counter(r.facts["value"] for r in single)
    sign = 1.0 if goal.goal == "maximize" else -1.0
    order = sorted(sign * r.facts["value"] for r in single)
    for value, count in counts.items():
        absurd_zero = goal.goal == "maximize" and value in (0.0, -1.0) and len(counts) > 1
        round_one = abs(value) >= 100 and value % 100 == 0 and count >= 3
        if (absurd_zero and sign * value <= order[0]) or (
            round_one and sign * value <= order[len(order) // 2]
        ):
            findings.penalties[value] = count
    for run in single:
        if run.facts["value"] in findings.penalties:
            run.facts["state"] = "failed"


def _without_copies(runs: list[_Run], findings: Findings) -> list[_Run]:
    """Runs without those that repeat another: all of their curves are equal, to the last digit, and
    no setting that both name differs (folders that were copied); or, in MLflow, a parent that
    repeats the value of its child.
    """
    seen: dict[str, list[dict[str, Any]]] = {}
    children: dict[str, list[float]] = {}
    if findings.source.format == "mlflow":
        for run in runs:
            children.setdefault(run.facts["parent"], []).append(run.facts["value"])
    kept = []
    for run in runs:
        alike = seen.setdefault(run.content, []) if run.content else []
        copied = any(_agree(run.columns, other) for other in alike)
        own = children.get(run.facts["source_id"], [])
        if copied or (len(run.series) == 1 and run.facts["value"] in own):
            findings.copies += 1
            continue
        alike.append(run.columns)
        kept.append(run)
    return kept


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether no column that both have differs."""
    return all(other[name] == value for name, value in one.items() if name in other)


def _distinct(runs: list[_Run]) -> None:
    """Runs of one identity that are not copies get identities of their own, by what they hold."""
    seen: Counter[str] = Counter()
    for run in runs:
        identity = run.facts["run_id"]
        if seen[identity]:
            run.facts["run_id"] = run_id(identity, run.series, seen[identity])
        seen[identity] += 1


def _table(runs: list[_Run]) -> "pd.DataFrame":
    import pandas as pd

    names = {name for run in runs for name in run.columns}
    ordered = [c for c in COLUMNS if c in names] + sorted(n for n in names if n.startswith(EXTRA))
    data: dict[str, Any] = {}
    for fact in FACTS:
        values = [run.facts[fact] for run in runs]
        data[fact] = pd.Series(values, dtype=float if fact in NUMBERS else object)
    for name in ordered:
        data[name] = _series([run.columns.get(name) for run in runs], name)
    return pd.DataFrame(data)


def _series(values: list[Any], name: str) -> "pd.Series":
    """A column of one type: numbers, truth values or texts."""
    import pandas as pd

    kind = COLUMNS[name].kind if name in COLUMNS else None
    known = [v for v in values if v is not None]
    if kind in ("number", "integer") or (
        kind is None
        and known
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
    ):
        return pd.Series([math.nan if v is None else float(v) for v in values], dtype=float)
    if all(isinstance(v, bool) for v in known):
        return pd.Series(values, dtype=object)
    return pd.Series([None if v is None else str(v) for v in values], dtype=object)


def _curves(runs: list[_Run], goal: Goal) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        {"run_id": run.facts["run_id"], "epoch": epoch, **values}
        for run in runs
        for epoch, values in run.curve.items()
    ]
    names: Mapping[str, None] = dict.fromkeys(
        ["run_id", "epoch", goal.canonical, *(name for row in rows for name in row)]
    )
    return pd.DataFrame(rows, columns=list(names))
