"""Studies beside each other: what each found, what it cost, and how they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.study.study import Study
from foretune.views.charts import Frame, Line, legend, line_chart, responsive, series_style
from foretune.views.report import axis_format, render
from foretune.views.summary import duration, incumbent_trace, number, score


@dataclass(frozen=True)
class Compared:
    """A study in a comparison. `value` is its best one in the metric's own unit (None: none yet);
    `epochs_to_common` is how many epochs it took to reach what all of them reached.
    """

    name: str
    task: str
    method: str
    seed: int
    value: float | None
    test_accuracy: float | None
    trials: int
    failed: int
    epochs: int
    budget: int
    seconds: float
    past_tasks: int
    epochs_to_common: int | None
    config: Mapping[str, Any] | None


def compare(studies: Mapping[str, Study]) -> list[Compared]:
    """A row for each study, in the order given.

    Raises `BadInput` for fewer than two, and for studies whose metrics are not the same or of which
    one is to be large and the other small: their values cannot be set beside each other.
    """
    if len(studies) < 2:
        raise BadInput(f"two studies or more can be compared; given is {', '.join(studies)}")
    metrics: dict[tuple[str, str], str] = {}
    for name, study in studies.items():
        metrics.setdefault((study.plan.metric, study.plan.goal), name)
    if len(metrics) > 1:
        shown = "; ".join(f"{name}: {metric} ({goal})" for (metric, goal), name in metrics.items())
        raise BadInput(f"studies of different metrics cannot be compared ({shown})")
    common = common_value(list(studies.values()))
    return [_compared(name, study, common) for name, study in studies.items()]


def common_value(studies: Sequence[Study]) -> float | None:
    """The best value that all studies have reached, higher is better; None where one has none, or
    they are of different tasks.
    """
    found = [study.incumbent for study in studies]
    if len({study.plan.task for study in studies}) > 1 or None in found:
        return None
    return min(one[2] for one in found if one is not None)


def _compared(name: str, study: Study, common: float | None) -> Compared:
    plan, found = study.plan, study.incumbent
    reached = None
    if common is not None:
        trace = incumbent_trace(study) * plan.sign
        reached = int(np.flatnonzero(trace >= common)[0]) + 1
    return Compared(
        name=name,
        task=plan.task,
        method=plan.method,
        seed=plan.seed,
        value=None if found is None else found[2] * plan.sign,
        test_accuracy=plan.notes.test_accuracy,
        trials=len(study.started),
        failed=len(study.failures),
        epochs=study.spent,
        budget=study.budget,
        seconds=study.elapsed,
        past_tasks=len(plan.notes.past),
        epochs_to_common=reached,
        config=None if found is None else study.configs[found[0]],
    )


def table(studies: Mapping[str, Study]) -> list[list[str]]:
    """The comparison for people: a line of names, then a line for each study."""
    first = next(iter(studies.values()))
    metric, common = first.plan.metric, common_value(list(studies.values()))
    head = ["study", "method", "past", f"best {metric}", "test", "trials", "failed", "epochs"]
    head += ["time"] + (
        [] if common is None else [f"epochs to {score(metric, common * first.plan.sign)}"]
    )
    one_task = len({study.plan.task for study in studies.values()}) == 1
    rows = [head if one_task else ["task", *head]]
    for row in compare(studies):
        cells = [
            row.name,
            row.method,
            number(row.past_tasks),
            score(metric, row.value),
            score("accuracy", row.test_accuracy),
            number(row.trials),
            number(row.failed),
            f"{row.epochs:,} of {row.budget:,}",
            duration(row.seconds),
        ]
        cells += [] if row.epochs_to_common is None else [number(row.epochs_to_common)]
        rows.append(cells if one_task else [row.task, *cells])
    return rows


def differences(studies: Mapping[str, Study]) -> list[tuple[str, list[str]]]:
    """What the studies were started with and does not agree, and their best configurations: (name,
    a text for each study).
    """
    asked = [
        {"task": s.plan.task, "seed": s.plan.seed, "epochs of a full training": s.plan.max_epoch}
        | {"past tasks": ", ".join(s.plan.notes.past) or "none"}
        | {f"setting {k}": v for k, v in s.plan.notes.settings.items()}
        | {f"option {k}": v for k, v in s.plan.notes.options.items()}
        for s in studies.values()
    ]
    out = [(name, texts) for name, texts in _columns(asked) if len(set(texts)) > 1]
    best = [{} if s.incumbent is None else s.configs[s.incumbent[0]] for s in studies.values()]
    return out + [(f"best {name}", texts) for name, texts in _columns(best)]


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [(n, [number(row[n]) if n in row else "–" for row in rows]) for n in names]


def incumbents(studies: Mapping[str, Study]) -> str:
    """The incumbents of all studies against the epochs that each has spent, as a chart."""
    metric, lines = next(iter(studies.values())).plan.metric, []
    for k, (name, study) in enumerate(studies.items()):
        trace = incumbent_trace(study)
        known = np.flatnonzero(np.isfinite(trace))
        if len(known):
            x = list(range(int(known[0]) + 1, len(trace) + 1))
            y = trace[known[0] :].tolist()
            lines.append(Line(x, y, name, f"{series_style(k)} thick", steps=True, dot=len(x) == 1))
    values = [y for line in lines for y in line.y]
    y_range = (min(values), max(values)) if values else None
    frame = Frame(
        x_label="epochs spent",
        y_label=f"incumbent: {metric}",
        y_format=axis_format(metric, y_range),
    )
    return responsive(lambda f: line_chart(lines, f), frame) + legend(lines) if lines else ""


def comparison_page(studies: Mapping[str, Study]) -> str:
    """The comparison as one page that needs nothing else. Raises `BadInput` as `compare` does."""
    head, *rows = table(studies)
    return render(
        "comparison.html",
        title=" · ".join(studies),
        names=list(studies),
        tasks=list(dict.fromkeys(study.plan.task for study in studies.values())),
        head=head,
        texts=head.index("past"),  # columns before the numbers
        rows=rows,
        chart=incumbents(studies),
        differences=differences(studies),
    )
