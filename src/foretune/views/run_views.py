"""A study as runs, parameters, tags and curves: what MLflow should show, without MLflow.

A study is a parent run and its trials are child runs; points come in groups, one per epoch, that
are written whole or not at all.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from foretune.space.names import log_name
from foretune.study.study import Plan, Study
from foretune.views.summary import (
    describe,
    incumbent_trace,
    past_shares,
    sentence,
    state,
    why_started,
)

RUN_STATES = {
    "training": "RUNNING",
    "paused": "SCHEDULED",
    "finished": "FINISHED",
    "stopped": "FINISHED",
    "failed": "FAILED",
}
MOST_CHARACTERS = 5000  # of a parameter or tag; MLflow takes 6,000 and 8,000

SPENT, EPOCHS, BUDGET, MINUTES = "spent", "epochs", "budget", "budget_minutes"
STUDY = "foretune.study.study"  # the tag by which a study's run is found

Point = tuple[str, float, int]  # metric, value, step


@dataclass(frozen=True)
class RunView:
    """What one run should hold.

    `groups` are points by the count (epochs told, or spent) that the group completes, ascending.
    """

    name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    groups: Sequence[tuple[int, Sequence[Point]]]


@dataclass(frozen=True)
class StudyView:
    """A study at one moment, so that another thread can write it.

    `facts` are numbers that may change: budget, test accuracy.
    """

    uid: str
    plan: Plan
    hyperparameters: Sequence[str]
    parent: RunView
    trials: Mapping[int, RunView]
    facts: Mapping[str, float]


class Views:
    """Makes the views of one study.

    Trials that did not change since the last one are not made again.
    """

    def __init__(self, uid: str):
        self.uid = uid
        self._trials: dict[int, tuple[tuple[Any, ...], RunView]] = {}

    def __call__(self, study: Study, stopped: bool = False) -> StudyView:
        """The study now; `stopped`: nobody works on it any more."""
        why = why_started(study)
        best = study.incumbent
        trials = {}
        for i in study.started:
            label = state(study, i)
            label = "stopped" if stopped and label in ("training", "paused") else label
            key = (len(study.rows[i]), label, best is not None and best[0] == i)
            if i not in self._trials or self._trials[i][0] != key:
                self._trials[i] = (key, trial_view(study, i, label, why.get(i, "")))
            trials[i] = self._trials[i][1]
        plan = study.plan
        facts = {
            **({} if plan.budget is None else {BUDGET: float(plan.budget)}),
            **({} if plan.seconds is None else {MINUTES: plan.seconds / 60}),
            **{log_name(k): float(v) for k, v in plan.notes.to_json().items() if finite(v)},
        }
        return StudyView(
            self.uid, plan, study.space.names, study_view(study, self.uid, stopped), trials, facts
        )


def study_view(study: Study, uid: str, stopped: bool) -> RunView:
    """The parent run: incumbent against epochs spent."""
    plan, found, past = study.plan, study.incumbent, study.past
    status = "stopped" if stopped else "training"
    if study.done and not study.pending.any():
        status = "finished"
    params = {
        "method": plan.method,
        "seed": plan.seed,
        "metric": plan.metric,
        "goal": plan.goal,
        "max_epoch": plan.max_epoch,
        "configurations": "open" if plan.open else len(study.configs),
        "past_tasks": len(past.tasks) if past is not None else 0,
    }
    params |= {f"settings.{k}": v for k, v in plan.notes.settings.items()}
    tags = {
        STUDY: uid,
        "mlflow.source.name": "foretune",
        "mlflow.note.content": sentence(study),
        "task": plan.task,
        "method": plan.method,
        "status": status,
        "past_tasks": ", ".join(past.tasks) if past is not None else "none",
        "leaned_on": shares(past_shares(study)),
        "failed_trials": len(study.failures),
    }
    if found is not None:
        tags |= {"best_trial": found[0]} | {
            f"best.{k}": v for k, v in study.configs[found[0]].items()
        }
    groups = []
    for spent, value in enumerate(incumbent_trace(study), 1):
        point = [("incumbent", float(value), spent)] if math.isfinite(value) else []
        groups.append((spent, [*point, (SPENT, float(spent), spent)]))
    run_status = {"finished": "FINISHED", "stopped": "KILLED", "training": "RUNNING"}[status]
    return RunView(title(study), run_status, texts(params), texts(tags), groups)


def title(study: Study) -> str:
    """The study's name and method.

    A comparison that lies in a study's folder is named after that one.
    """
    method, kind = study.plan.method, study.plan.notes.baseline
    if study.folder is None:
        return f"{study.plan.task} · {method}"
    if kind:
        return f"{study.folder.parent.name} beside {kind}"
    return study.folder.name if method in study.folder.name else f"{study.folder.name} · {method}"


def trial_view(study: Study, i: int, label: str, why: str) -> RunView:
    """A child run: one trial, every finite number of its rows.

    `best` so far in the metric's own unit.
    """
    found = study.incumbent
    tags: dict[str, Any] = {
        "foretune.trial": i,
        "study": title(study),
        "status": label,
        "why": why,
        "leaned_on": shares(past_shares(study, i)),
    }
    tags["incumbent"] = "yes" if found is not None and found[0] == i else "no"
    if i in study.failures:
        epoch, reason = study.failures[i]
        tags["failure"] = f"epoch {epoch}: {reason}"
    best, sign, metric = -math.inf, study.plan.sign, study.plan.metric
    groups = []
    for row in list(study.rows[i]):
        epoch = int(row["epoch"])
        points = [
            (log_name(k), float(v), epoch) for k, v in row.items() if k != "epoch" and finite(v)
        ]
        if epoch > 0 and finite(row[metric]):
            best = max(best, sign * float(row[metric]))
        if math.isfinite(best):
            points.append(("best", sign * best, epoch))
        groups.append((epoch, [*points, (EPOCHS, float(epoch), epoch)]))
    return RunView(
        f"trial {i} · {describe(study.configs[i])}",
        RUN_STATES[label],
        texts(study.configs[i]),
        texts(tags),
        groups,
    )


def saved_views(view: StudyView, now: int) -> dict[str, str]:
    """Experiment tags that put two entries into the "Views" menu of MLflow's page.

    From 3.17 on; others pass them over. The page's own start shows no metric.

    "Studies, best first" has one for what studies differ in; "Trials, best first" one for each
    hyperparameter. `now` in milliseconds.
    """
    common = {
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
    }
    studies = {
        # studies alone: the UI loads 100 runs at a time, which trials would fill
        "searchFilter": "params.method != ''",
        "orderByKey": "metrics.`incumbent`",
        "orderByAsc": view.plan.goal == "minimize",
        "selectedColumns": [
            *(f"metrics.`{k}`" for k in ("incumbent", "test_accuracy", SPENT, BUDGET)),
            *(f"params.`{k}`" for k in ("method", "seed", "past_tasks")),
            *(f"tags.`{k}`" for k in ("status", "best_trial", "leaned_on", "failed_trials")),
        ],
    }
    trials = {
        "searchFilter": f"metrics.`{EPOCHS}` >= 0",
        "orderByKey": "metrics.`best`",
        "orderByAsc": view.plan.goal == "minimize",
        "selectedColumns": [
            *(f"metrics.`{k}`" for k in ("best", EPOCHS)),
            *(f"params.`{log_name(k)}`" for k in view.hyperparameters),
            *(f"tags.`{k}`" for k in ("study", "status", "why", "leaned_on", "failure")),
        ],
    }
    out = {}
    for key, shown, state_ in (
        ("studies", "Studies, best first", studies),
        ("trials", "Trials, best first", trials),
    ):
        saved = {
            "name": shown,
            "createdAt": now,
            "updatedAt": now,
            "state": json.dumps({**common, **state_}),
        }
        out[f"mlflow.sharedViewState.foretune-{key}"] = json.dumps(saved)
    return {key: text for key, text in out.items() if len(text) <= MOST_CHARACTERS}


def finite(value: Any) -> bool:
    """Whether `value` is a number that MLflow may be given."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def shares(weights: Mapping[str, float]) -> str:
    """The five heaviest past tasks, in per cent."""
    return ", ".join(f"{task} {share:.0%}" for task, share in list(weights.items())[:5]) or "none"


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters or tags as MLflow takes them."""
    return {log_name(k): str(v)[:MOST_CHARACTERS] for k, v in values.items()}
