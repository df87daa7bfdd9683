"""Four records of one study, compared value by value: its journal, its tables, what was executed,
and MLflow.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.study.study import Study

Cell = tuple[int, int]  # trial, epoch
CLOSE = 1e-6  # relative: tables hold single precision


@dataclass
class Findings:
    """What the records of a study say against each other; `wrong` in words."""

    epochs: int = 0
    repeated: int = 0
    lost: int = 0
    twice: int = 0
    missing: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Execution:
    """An epoch that a trial's process really executed, and the value that it handed over."""

    trial: int
    epoch: int
    value: float
    x: float


def same(one: float, other: float) -> bool:
    """Whether two numbers are one, but for single precision."""
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)


def told(study: Study) -> dict[Cell, float]:
    """The values of a study's journal."""
    metric = study.plan.metric
    return {
        (i, int(row["epoch"])): float(row[metric])
        for i, rows in study.rows.items()
        for row in rows
        if row["epoch"] > 0
    }


def executions(file: Path) -> list[Execution]:
    """What trials' processes wrote down."""
    if not file.exists():
        return []
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return [Execution(int(i), int(e), float(value), float(x)) for i, e, value, x in lines]


def compare(
    folder: Path, uri: str, prefix: str, want: set[Cell] | None, executed: Path | None
) -> Findings:
    """All records of the study in `folder`, which should hold the cells `want` (None: whatever its
    journal holds); `executed` is None where nobody wrote down what was executed.
    """
    try:
        study, found = Study.load(folder), Findings()
    except BadInput as error:
        return Findings(wrong=[str(error)])
    journal = told(study)
    want = set(journal) if want is None else want
    found.epochs = len(want)
    found.lost += len(want - set(journal))
    found.twice += len(study.order) - len(set(study.order))
    tables(study, folder, want, found)
    if executed is not None:
        execution(study, executions(executed), want, found)
    logged(study, folder, uri, prefix, want, found)
    return found


def tables(study: Study, folder: Path, want: set[Cell], found: Findings) -> None:
    """The study's tables against its journal: values, and which configuration they belong to."""
    saved, metric = MetaDataset.load(folder), study.plan.metric
    for config_id, config in zip(saved.config_ids, saved.configs, strict=True):
        if config != study.configs[config_id]:
            found.wrong.append(f"table: {config_id} is {config}, not {study.configs[config_id]}")
    frame = saved.table[["config_id", "epoch", metric]]
    rows = [((int(i), int(e)), float(v)) for i, e, v in frame.itertuples(index=False) if e > 0]
    against(study, "table", rows, want, found)
    found.lost += len(want - {cell for cell, _ in rows})


def execution(study: Study, done: Iterable[Execution], want: set[Cell], found: Findings) -> None:
    """What was executed against the journal: a told value is one that this very configuration gave
    in this very epoch.
    """
    values: dict[Cell, list[float]] = {}
    for one in done:
        values.setdefault((one.trial, one.epoch), []).append(one.value)
        if not same(one.x, study.configs[one.trial]["x"]):
            found.wrong.append(
                f"trial {one.trial} was executed with {one.x}, and is {study.configs[one.trial]}"
            )
    found.lost += len(want - set(values))
    found.repeated += sum(len(v) - 1 for v in values.values())
    for cell, value in told(study).items():
        if cell in values and not any(same(value, v) for v in values[cell]):
            found.wrong.append(f"journal: {cell} is {value}, executed were {values[cell]}")


def logged(
    study: Study, folder: Path, uri: str, prefix: str, want: set[Cell], found: Findings
) -> None:
    """MLflow's runs against the journal: every curve, the best so far, the incumbent, parameters."""
    from mlflow import MlflowClient

    client, metric = MlflowClient(uri), study.plan.metric
    experiment = client.get_experiment_by_name(f"{prefix}/{study.plan.task}")
    uid = json.loads((folder / "mlflow.json").read_text(encoding="utf-8"))["study"]
    where = [experiment.experiment_id] if experiment else []
    parents = client.search_runs(where, f"tags.`foretune.study.study` = '{uid}'") if where else []
    if len(parents) != 1:
        found.twice += max(len(parents) - 1, 0)
        found.missing += 0 if parents else len(want)
        return
    runs = client.search_runs(
        where, f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'", max_results=1000
    )
    trials = Counter(int(run.data.tags["foretune.trial"]) for run in runs)
    found.twice += sum(trials.values()) - len(trials)
    rows: list[tuple[Cell, float]] = []
    best: list[tuple[Cell, float]] = []
    for run in runs:
        i = int(run.data.tags["foretune.trial"])
        for name, value in study.configs[i].items():
            if run.data.params.get(name) != str(value):
                found.wrong.append(f"MLflow: trial {i} has {name} {run.data.params.get(name)}")
        for key, into in ((metric, rows), ("best", best)):
            points = client.get_metric_history(run.info.run_id, key)
            into += [((i, p.step), float(p.value)) for p in points if p.step > 0]
    against(study, "MLflow", rows, want, found)
    found.missing += len(want - {cell for cell, _ in rows})
    running(study, best, found)
    history = client.get_metric_history(parents[0].info.run_id, "incumbent")
    incumbents = Counter(p.step for p in history)
    found.twice += sum(incumbents.values()) - len(incumbents)
    found.missing += len(set(range(1, study.spent + 1)) - set(incumbents))
    values, reached = told(study), -math.inf
    expected = []
    for cell in study.order:
        reached = max(reached, values[cell])
        expected.append(reached)
    for point in history:
        if not (0 < point.step <= len(expected) and same(point.value, expected[point.step - 1])):
            found.wrong.append(f"MLflow: incumbent {point.value} at {point.step} epochs")


def running(study: Study, best: Iterable[tuple[Cell, float]], found: Findings) -> None:
    """The best so far of each trial, as logged, against the journal."""
    values = told(study)
    for (i, epoch), value in best:
        so_far = [v for (j, e), v in values.items() if j == i and e <= epoch]
        if not so_far or not same(value, max(so_far)):
            found.wrong.append(f"MLflow: best of trial {i} at epoch {epoch} is {value}")


def against(
    study: Study,
    record: str,
    rows: Iterable[tuple[Cell, float]],
    want: set[Cell],
    found: Findings,
) -> None:
    """The values of a record against the journal's."""
    rows, values = list(rows), told(study)
    found.twice += len(rows) - len({cell for cell, _ in rows})
    for cell, value in rows:
        if cell not in values or not same(value, values[cell]):
            found.wrong.append(f"{record}: {cell} is {value}, the journal has {values.get(cell)}")


def changed(before: Mapping[Cell, float], now: Mapping[Cell, float]) -> tuple[int, list[str]]:
    """How many values that were told are gone, and which became others."""
    gone = len(set(before) - set(now))
    other = [
        f"journal: {cell} was {value} and is {now[cell]}"
        for cell, value in before.items()
        if cell in now and now[cell] != value
    ]
    return gone, other
