"""What MLflow holds of studies and trials: runs found, compared, created and brought up to date.

With `foretune.views.tracking`, which says when, the only module that imports mlflow, at the first
study logged.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.space.names import log_name
from foretune.views.run_views import EPOCHS, SPENT, STUDY, Point, RunView, StudyView

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"  # beside each other; a server has its own place


MOST_METRICS, MOST_TEXTS = 1000, 100  # MLflow's limits of a batch; parameters and tags count apart


@dataclass
class KnownRun:
    """What MLflow is known to hold of a run; `last` is the newest count of its points."""

    run_id: str
    status: str
    last: int = -1
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)


def other_values(
    client: "MlflowClient", trials: Mapping[int, KnownRun], view: StudyView, alone: bool
) -> str | None:
    """What MLflow's runs hold that the study's journal does not, None if nothing; epochs that the
    study has not come to count if it is written by this process `alone`.
    """
    metric = log_name(view.plan.metric)
    for i, run in sorted(trials.items()):
        groups = view.trials[i].groups if i in view.trials else []
        told = {step: v for _, points in groups for key, v, step in points if key == metric}
        last = groups[-1][0] if groups else -1
        if alone and (run.last > last or i not in view.trials):
            return f"epoch {run.last} of trial {i}, which its journal does not"
        logged = client.get_metric_history(run.run_id, metric)
        for point in logged:
            if point.step <= last and not math.isclose(
                point.value, told.get(point.step, math.nan), rel_tol=1e-9, abs_tol=1e-12
            ):
                return (
                    f"{metric} {point.value:g} in epoch {point.step} of trial {i}, and its journal "
                    f"{told.get(point.step, math.nan):g}"
                )
        if lacking := {s for s in told if s <= run.last} - {point.step for point in logged}:
            return f"no {metric} in epoch {min(lacking)} of trial {i}, and its journal does"
    return None


def make_database(path: Path) -> None:
    """Make MLflow's tables in an SQLite file, and close it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    artifacts = (path.parent / ARTIFACTS).absolute().as_uri()
    SqlAlchemyStore(f"sqlite:///{path}", artifacts).engine.dispose()


def database_version() -> str:
    """The version of MLflow's tables."""
    from alembic.script import ScriptDirectory
    from mlflow.store import db_migrations

    return str(ScriptDirectory(str(Path(db_migrations.__file__).parent)).get_current_head())


def find_runs(
    client: "MlflowClient", experiment: str, view: StudyView
) -> tuple[KnownRun, dict[int, KnownRun]]:
    """What MLflow holds of the study and of its trials; creates the parent run if there is none."""
    found = client.search_runs([experiment], f"tags.`{STUDY}` = '{view.uid}'", max_results=1)
    if not found:
        return create_run(client, experiment, view.parent, {}), {}
    parent = known_run(found[0], SPENT)
    trials: dict[int, KnownRun] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            f"tags.`mlflow.parentRunId` = '{parent.run_id}'",
            max_results=1000,
            page_token=token,
        )
        trials |= {int(run.data.tags["foretune.trial"]): known_run(run, EPOCHS) for run in page}
        if not (token := page.token):
            return parent, trials


def known_run(run: Any, counter: str) -> KnownRun:
    """What a run that MLflow returned holds."""
    data = run.data
    return KnownRun(
        run.info.run_id,
        run.info.status,
        int(data.metrics.get(counter, -1)),
        dict(data.tags),
        set(data.params),
        dict(data.metrics),
    )


def create_run(
    client: "MlflowClient", experiment: str, view: RunView, tags: Mapping[str, str]
) -> KnownRun:
    """A new run; the tags by which it is found again come in the same transaction."""
    run = client.create_run(experiment, tags={**tags, **view.tags}, run_name=view.name)
    return KnownRun(run.info.run_id, "RUNNING", tags=dict(run.data.tags))


def update_run(
    client: "MlflowClient",
    run: KnownRun,
    view: RunView,
    facts: Sequence[Point] = (),
    stale: Mapping[str, str] | None = None,
) -> None:
    """Write what `run` lacks of `view`, in batches within MLflow's limits."""
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(k, v) for k, v in view.params.items() if k not in run.params]
    changed = {k: v for k, v in {**view.tags, **(stale or {})}.items() if run.tags.get(k) != v}
    tags = [RunTag(k, v) for k, v in changed.items()]
    batches: list[list[Point]] = [list(facts)]
    for _, points in (group for group in view.groups if group[0] > run.last):
        if len(batches[-1]) + len(points) > MOST_METRICS:
            batches.append([])
        batches[-1] += points
    now = int(time.time() * 1000)
    for k in range(max(len(batches), -(-max(len(params), len(tags)) // MOST_TEXTS))):
        part = slice(k * MOST_TEXTS, (k + 1) * MOST_TEXTS)
        points = batches[k] if k < len(batches) else []
        metrics = [Metric(key, value, now, step) for key, value, step in points]
        if metrics or params[part] or tags[part]:
            client.log_batch(run.run_id, metrics=metrics, params=params[part], tags=tags[part])
        run.metrics |= {key: value for key, value, _ in points}
    run.params |= set(view.params)
    run.tags |= changed
    run.last = max(run.last, view.groups[-1][0] if view.groups else -1)
    if run.status != view.status:
        if view.status in ("FINISHED", "FAILED", "KILLED"):
            client.set_terminated(run.run_id, view.status)
        else:
            client.update_run(run.run_id, status=view.status)
        run.status = view.status


def ensure_model(client: "MlflowClient", name: str, about: str) -> None:
    """Create the registered model `name`, unless there is one."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name, description=about)


def refused(error: BaseException) -> bool:
    """Whether MLflow will never take what it was given, unlike after an outage."""
    return getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE" or isinstance(
        error, UnicodeError
    )
