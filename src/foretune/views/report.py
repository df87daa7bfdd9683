"""The report of a study: one HTML file that needs nothing else, for screens, phones and paper.

    extras = {"baselines": {"random search": other}, "thumbnails": png}
    write_report(study, "report.html", extras)

`extras`, all optional (what is missing is left out, `study.plan.notes` is asked for the
accuracies):

| key             | is                                                                             |
|-----------------|--------------------------------------------------------------------------------|
| `baselines`     | name -> `Study` on the same task (random search, the default configuration),   |
|                 | drawn and tabled beside this one                                               |
| `test_accuracy` | of the incumbent; a baseline's own is in its `plan.notes`                      |
| `thumbnails`    | PNG or JPEG bytes of a sheet of the task's images, or caption -> bytes         |
| `facts`         | name -> text for the table at the end, such as the network or where the images |
|                 | came from                                                                      |
| `judged`        | `foretune.views.verdict.Judged`: how sure the trials' values are               |
| `models`        | name -> what a model says of the test images (`Assessment`), the one that is   |
|                 | to be used last: its classes and confusion are shown                           |
| `mistakes`      | (PNG bytes, caption) of that one's worst mistakes                              |
| `tests`         | sentences about models on the same test images                                 |
| `use`           | command lines: how the result is used                                          |
"""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.space.space import choices, from_unit
from foretune.study.study import Study
from foretune.training.assessment import Assessment
from foretune.views.charts import (
    SERIES,
    Coordinate,
    Frame,
    Line,
    confusion_chart,
    legend,
    line_chart,
    parallel_coordinates,
    responsive,
    series_style,
)
from foretune.views.importance import Importance, importance
from foretune.views.summary import (
    best_value,
    describe,
    duration,
    incumbent_trace,
    is_share,
    number,
    past_shares,
    plus_minus,
    reasons,
    score,
    sentence,
    state,
    tuned,
    why_started,
)
from foretune.views.verdict import Judged, standard_error, verdict

MOST_CURVES = 300  # drawn; the best are kept
MOST_AXES = 7
MOST_ROWS = 500


def write_report(
    study: Study, path: Path | str, *, extras: Mapping[str, Any] | None = None
) -> Path:
    """Write the study's report to `path`, by rename; returns the path."""
    write_atomic(path, study_report(study, extras=extras))
    return Path(path)


def study_report(study: Study, *, extras: Mapping[str, Any] | None = None) -> str:
    """The study's report as HTML.

    The same study gives the same text. Raises `BadInput` for thumbnails that are no pictures.
    """
    extras = dict(extras or {})
    baselines: Mapping[str, Study] = extras.get("baselines") or {}
    weights = importance(study, np.random.default_rng(0))
    judged: Judged | None = extras.get("judged")
    models: Mapping[str, Assessment] = extras.get("models") or {}
    shown = list(models.values())[-1] if models else None
    name = study.folder.name if study.folder else study.plan.task
    return render(
        "study.html",
        title=f"{name} · {study.plan.method}",
        plan=study.plan,
        name=name,
        lede=sentence(study),
        winner=winner(study),
        verdict=[
            *(verdict(study, judged) if judged is not None else []),
            *(extras.get("tests") or []),
        ],
        use=list(extras.get("use") or []),
        metrics=metric_table(models),
        labels=list(models),
        model=list(models)[-1] if models else "",
        classes=[] if shown is None else shown.classes,
        confusion="" if shown is None else confusion_chart(shown.confusion, shown.class_names),
        confused=[] if shown is None else shown.confused(15),
        mistakes=[(data_uri(image), caption) for image, caption in extras.get("mistakes") or []],
        tiles=tiles(study, baselines, extras),
        incumbent=incumbent_chart(study, baselines),
        incumbent_by_clock=incumbent_chart(study, baselines, by_clock=True),
        curves=curves_chart(study),
        curves_left_out=max(0, len(study.started) - MOST_CURVES),
        failures=[(i, epoch, reason) for i, (epoch, reason) in study.failures.items()],
        parallel=parallel_chart(study, weights),
        importance=weights,
        bars=bars({k: v for k, v in list(weights.index.items())[:12] if v >= 0.005}),
        unimportant=[k for n, (k, v) in enumerate(weights.index.items()) if n >= 12 or v < 0.005],
        axes_left_out=max(0, len(tuned(study)[0]) - MOST_AXES),
        past=bars(dict(list(past_shares(study).items())[:12])),
        past_count=len(study.past.tasks) if study.past is not None else 0,
        reasons=reasons(study).most_common(8),
        cost=plain_cost(study),
        table=config_table(study),
        thumbnails=[
            (caption, data_uri(image)) for caption, image in _pictures(extras.get("thumbnails"))
        ],
        facts=_facts(study, extras.get("facts") or {}),
    )


def render(template: str, **values: Any) -> str:
    """Fill a page; every value is escaped except the charts, which escape their own."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("foretune.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(template).render(**values, show=number)


def tiles(
    study: Study, baselines: Mapping[str, Study], extras: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """The figures on top: (what, value, remark)."""
    metric, sign, best, remark = study.plan.metric, study.plan.sign, None, ""
    if study.incumbent is not None:
        config_id, epoch, value = study.incumbent
        best, remark = value * sign, f"configuration {config_id}, epoch {epoch}"
    judged: Judged | None = extras.get("judged")
    error = standard_error(study, judged, best) if judged is not None and best is not None else None
    text = score(metric, best) if best is None else plus_minus(metric, best, error)
    out = [(f"best {metric}", text, remark)]
    test = extras.get("test_accuracy", study.plan.notes.test_accuracy)
    models: Mapping[str, Assessment] = extras.get("models") or {}
    for label, model in models.items():
        one = model.metrics["accuracy"]
        text = plus_minus("accuracy", one.value, one.error)
        out.append(
            (f"test accuracy, {label}", text, f"{len(model.labels):,} images, measured once")
        )
    if test is not None and not models:
        out.append(
            ("test accuracy", score("accuracy", test), "of that configuration, measured once")
        )
    for name, other in baselines.items():
        reached = None if other.incumbent is None else other.incumbent[2] * sign
        remark = f"{other.spent:,} epochs"
        if reached is not None and best is not None:
            lead = sign * (best - reached)
            word = "better" if lead >= 0 else "worse"
            remark += f"; this study is {gap(metric, abs(lead))} {word}"
        other_test = other.plan.notes.test_accuracy
        if other_test is not None:
            remark += f"; test {score('accuracy', other_test)}"
        out.append((name, score(metric, reached), remark))
    full = len(study.started) * study.max_epoch
    remark = "" if study.plan.budget is None else f"of {study.plan.budget:,}"
    if full > study.spent:
        remark = f"training all {len(study.started)} to the end: {full:,}"
    out.append(("epochs spent", f"{study.spent:,}", remark))
    return out


def winner(study: Study) -> list[tuple[str, str]]:
    """The best configuration's values by name; none where there is none."""
    if study.incumbent is None:
        return []
    return [(name, number(value)) for name, value in study.configs[study.incumbent[0]].items()]


def metric_table(models: Mapping[str, Assessment]) -> list[tuple[str, list[str]]]:
    """Each metric on the test images, of each model."""
    names = list(next(iter(models.values())).metrics) if models else []
    return [
        (
            name.replace("_", " "),
            [
                plus_minus(name, m.metrics[name].value, m.metrics[name].error)
                for m in models.values()
            ],
        )
        for name in names
    ]


def gap(metric: str, value: float) -> str:
    """A difference of two values of the metric: accuracies in percentage points."""
    return f"{100 * value:.2f} points" if is_share(metric, value) else number(value)


def incumbent_chart(study: Study, baselines: Mapping[str, Study], *, by_clock: bool = False) -> str:
    """Incumbent against epochs spent, this study's on top of its baselines'; `by_clock` against the
    minutes that each had run, where the journals say them, else an empty text.
    """
    lines = []
    for k, (name, other) in enumerate([*baselines.items(), ("this study", study)]):
        trace = incumbent_trace(other)
        is_baseline = k < len(baselines)
        if len(trace) and np.isfinite(trace).any():
            style = f"{series_style(k + 1)} thin" if is_baseline else "s0 thick"
            first = int(np.flatnonzero(np.isfinite(trace))[0])
            x: list[float] = list(range(first + 1, len(trace) + 1))
            if by_clock and not (x := minutes_told(other)[first:]):
                continue
            lines.append(Line(x, trace[first:].tolist(), name, style, steps=True, dot=len(x) == 1))
    metric = study.plan.metric
    y_range = None
    if lines:
        # the first epochs of a first trial are far off and would flatten the rest
        values = np.array([y for line in lines for y in line.y], dtype=float) * study.plan.sign
        low, high = float(np.quantile(values, 0.1)), float(values.max())
        y_range = _ordered(low * study.plan.sign, high * study.plan.sign) if high > low else None
    frame = Frame(
        x_label="minutes" if by_clock else "epochs spent",
        y_label=f"incumbent: {metric}",
        y_format=axis_format(metric, y_range),
        y_range=y_range,
    )
    if by_clock and not lines:
        return ""
    chart = responsive(lambda f: line_chart(lines, f), frame)
    return chart + legend(lines) if len(lines) > 1 else chart


def minutes_told(study: Study) -> list[float]:
    """The minutes of the clock at which each epoch of `study.order` was told, an epoch that does
    not say counting with the one before; none where no epoch says.
    """
    times = np.array(study.times, dtype=float)
    if not np.isfinite(times).any():
        return []
    filled = np.maximum.accumulate(np.where(np.isfinite(times), times, 0.0))
    return list((filled / 60).tolist())


def curves_chart(study: Study, marked: Sequence[int] = ()) -> str:
    """The best `MOST_CURVES` learning curves, incumbent on top, failed ones ending in a cross.

    Those of the trials `marked`, such as the ones that are being trained, have colours and names.
    """
    metric, sign = study.plan.metric, study.plan.sign
    best = None if study.incumbent is None else study.incumbent[0]
    order = [int(i) for i in sorted(study.started, key=lambda i: -study.best[i])][:MOST_CURVES]
    order += [i for i in marked if i not in order]
    lines = []
    for i in reversed(order):
        seen = np.flatnonzero(np.isfinite(study.Y[i]))
        x = [int(e) + 1 for e in seen]
        y = [float(study.Y[i, e] * sign) for e in seen]
        if math.isfinite(study.start_value[i]):
            x, y = [0, *x], [float(study.start_value[i] * sign), *y]
        if not x:
            continue
        is_best, has_failed = i == best, bool(study.failed[i])
        title = (
            f"configuration {i} ({state(study, i)}): {describe(study.configs[i])}; best "
            f"{score(metric, best_value(study, i))}"
        )
        style = "s0 thick" if is_best else "failed" if has_failed else "muted"
        label = "incumbent" if is_best else ""
        if i in marked and not is_best:
            style, label = series_style(1 + marked.index(i) % (SERIES - 1)), f"trial {i}"
        lines.append(Line(x, y, label, style, title, cross=has_failed, dot=label != ""))
    # those with names on top, the incumbent last
    lines.sort(key=lambda line: (line.label != "", line.label == "incumbent"))
    y_range = None
    if lines:
        values = np.array([y for line in lines for y in line.y], dtype=float) * sign
        high = float(values.max())
        # a loss that explodes would flatten the rest
        low = max(float(np.quantile(values, 0.03)), high - 6 * (high - float(np.median(values))))
        y_range = _ordered(low * sign, high * sign) if high > low else None
    frame = Frame(
        x_label="epoch", y_label=metric, y_format=axis_format(metric, y_range), y_range=y_range
    )
    chart = responsive(lambda f: line_chart(lines, f), frame)
    return chart + legend(lines) if marked and chart else chart


def parallel_chart(study: Study, weights: Importance) -> str:
    """Trials as lines through their hyperparameters to their best value: the better, the darker.

    At most `MOST_AXES`, the most important ones.
    """
    names, _ = tuned(study)
    finite = [int(i) for i in study.started if np.isfinite(study.best[i])]
    rows = sorted(finite, key=lambda i: study.best[i])[-MOST_CURVES:]
    if len(rows) < 2 or not names:
        return ""
    if len(names) > MOST_AXES:
        names = sorted(names, key=lambda n: -weights.index.get(n, 0.0))[:MOST_AXES]
        names.sort(key=study.space.names.index)
    axes = [_coordinate(study, name, rows) for name in names]
    values = study.best[rows]
    low, high = float(np.quantile(values, 0.1)), float(values.max())
    low = low if high > low else high - 1.0
    metric, sign = study.plan.metric, study.plan.sign
    marks = [
        (0.0, f"≤ {score(metric, low * sign)}" if sign > 0 else f"≥ {score(metric, low * sign)}"),
        (1.0, score(metric, high * sign)),
    ]
    positions = np.clip((values - low) / (high - low), 0, 1).tolist()
    axes.append(Coordinate(f"best {metric}", positions, marks))
    styles = [f"p{min(4, 5 * r // len(rows))}" for r in range(len(rows))]
    styles[-1] = "s0 thick"
    titles = [
        f"configuration {i}: {describe(study.configs[i])}; best "
        f"{score(metric, best_value(study, i))}"
        for i in rows
    ]
    return parallel_coordinates(axes, styles, titles)


def _coordinate(study: Study, name: str, rows: Sequence[int]) -> Coordinate:
    parameter = study.space.parameters[name]
    configs = [study.configs[i] for i in rows]
    options: list[Any] = choices(parameter) or list(getattr(parameter, "sequence", []))
    if options:
        place = {v: k / max(1, len(options) - 1) for k, v in enumerate(options)}
        return Coordinate(
            name,
            [place.get(c.get(name), math.nan) for c in configs],
            [(p, number(v)) for v, p in place.items()],
        )
    column = study.space.columns[name].start
    marks = [(p, number(float(f"{from_unit(p, parameter):.3g}"))) for p in (0.0, 0.5, 1.0)]
    return Coordinate(
        name,
        [float(study.X[i, column]) if name in study.configs[i] else math.nan for i in rows],
        marks,
    )


def config_table(study: Study) -> dict[str, Any]:
    """The trials, best first: `columns` and `rows` of (text, sort value, class) cells.

    Beside them the values that all share (`shared`), and how many trials were left out.

    Cells of class "screen" are not printed: on paper, many hyperparameters are one line of text, of
    class "paper".
    """
    names, shared = tuned(study)
    metric, why, found = study.plan.metric, why_started(study), study.incumbent
    where = "screen" if len(names) > 6 else ""
    rows = []
    order = sorted(study.started, key=lambda i: (-study.best[i], i))
    for i in order[:MOST_ROWS]:
        config, best = study.configs[i], best_value(study, i)
        at = int(np.nanargmax(study.Y[i])) + 1 if best is not None else 0
        cells = [
            (str(i), i, ""),
            (score(metric, best), "" if best is None else best, ""),
            (number(at) if at else "–", at, ""),
            (str(study.epoch[i]), int(study.epoch[i]), ""),
            (state(study, i), state(study, i), ""),
            *[(number(config[n]) if n in config else "", config.get(n, ""), where) for n in names],
            *([(describe(config, 300), "", "paper text")] if where else []),
            (why.get(i, ""), why.get(i, ""), "screen text"),
        ]
        rows.append(
            {
                "cells": cells,
                "style": "best"
                if found is not None and found[0] == i
                else "failed"
                if study.failed[i]
                else "",
            }
        )
    columns = [(c, "") for c in ("id", f"best {metric}", "at epoch", "epochs", "state")] + [
        (n, where) for n in names
    ]
    columns += [("configuration", "paper")] * bool(where) + [("why it was tried", "screen")]
    return {
        "columns": columns,
        "rows": rows,
        "shared": [(k, number(v)) for k, v in shared.items()],
        "left_out": max(0, len(order) - MOST_ROWS),
    }


def plain_cost(study: Study) -> dict[str, Any]:
    """What full training of every started configuration would have cost, in epochs.

    Where rows have `seconds`, in time on one worker too.
    """
    trials = len(study.started)
    full = trials * study.max_epoch
    per_trial = [
        [
            float(r["seconds"])
            for r in rows
            if r["epoch"] > 0 and math.isfinite(r.get("seconds") or math.nan)
        ]
        for rows in study.rows.values()
    ]
    timed = [t for t in per_trial if t]
    spent_seconds = sum(map(sum, timed))
    full_seconds = sum(sum(t) / len(t) * study.max_epoch for t in timed)
    return {
        "trials": trials,
        "full": full,
        "spent": study.spent,
        "share": study.spent / full if full else 0.0,
        "spent_time": duration(spent_seconds) if timed else "",
        "full_time": duration(full_seconds) if timed else "",
    }


def bars(shares: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """(name, width in per cent of the widest, text) of shares."""
    most = max(shares.values(), default=0.0) or 1.0
    return [
        (name, round(100 * max(value, 0.0) / most, 1), f"{100 * value:.0f} %")
        for name, value in shares.items()
    ]


def axis_format(metric: str, y_range: tuple[float, float] | None) -> Any:
    """How an axis shows the metric: in per cent where that is how people say it."""
    if y_range is not None and is_share(metric) and y_range[0] >= -0.2 and y_range[1] <= 1.2:
        return lambda v: f"{100 * v:.4g} %"
    return lambda v: f"{v:,.6g}"


def data_uri(image: bytes) -> str:
    """A PNG or JPEG as a data URI. Raises `BadInput` for anything else."""
    for kind, start in (("png", b"\x89PNG"), ("jpeg", b"\xff\xd8")):
        if image.startswith(start):
            return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    raise BadInput("thumbnails must be the bytes of a PNG or JPEG file")


def _pictures(thumbnails: Any) -> list[tuple[str, bytes]]:
    if not thumbnails:
        return []
    if isinstance(thumbnails, (bytes, bytearray)):
        return [("", bytes(thumbnails))]
    return list(thumbnails.items())


def _facts(study: Study, extra: Mapping[str, Any]) -> list[tuple[str, str]]:
    plan = study.plan
    facts: dict[str, Any] = {
        "task": plan.task,
        "method": plan.method,
        "metric": f"{plan.metric} ({plan.goal})",
        "seed": plan.seed,
    }
    facts |= {
        "epochs of a full training": plan.max_epoch,
        **({} if plan.budget is None else {"budget in epochs": plan.budget}),
        **({} if plan.seconds is None else {"budget of time": duration(plan.seconds)}),
        "configurations known": len(study.configs),
    }
    if study.elapsed:
        facts["time the study ran"] = duration(study.elapsed)
    decisions = [float(s.get("seconds") or 0.0) for s in study.steps]
    if decisions:
        facts["time of a decision"] = (
            f"{1000 * float(np.median(decisions)):.3g} ms in the middle, "
            f"{1000 * max(decisions):.3g} ms at most"
        )
    facts |= {k: number(v) for k, v in plan.notes.settings.items()}
    return [(k, number(v)) for k, v in {**facts, **extra}.items()]


def _ordered(a: float, b: float) -> tuple[float, float]:
    return (a, b) if a <= b else (b, a)
