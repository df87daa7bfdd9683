"""`foretune recommend`: the ranking on the screen, as JSON, and as a page with thumbnails."""

import argparse
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretune.commands.cli import check_output
from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.recommenders.recommendation import Recommendation, Row, recommend
from foretune.tasks.task import Task
from foretune.views.report import data_uri, render
from foretune.views.sheet import sheet_png
from foretune.views.summary import describe, is_share, number, score

NEAREST = 3  # past tasks that are shown
FIRST = 10  # suggestions of which it is said how many the images brought there


def run(args: argparse.Namespace) -> int:
    """Rank, print and write the page."""
    if args.top < 1:
        raise BadInput(f"--top {args.top} must be at least 1")
    check_output(args.out)
    if args.json and args.out is not None:
        raise BadInput("--json prints the ranking and writes no page: leave out --out")
    found = recommend(
        args.images,
        data=args.data,
        meta=args.meta,
        recommender=args.recommender,
        seed=args.seed,
        own=not args.no_own_studies,
    )
    if args.json:
        print(json.dumps(as_json(found, args.top), indent=1))
        return 0
    page = (
        args.out
        or args.data
        / "recommendations"
        / f"{found.task.name}-{found.task.hash[:6]}-{found.recommender}.html"
    )
    write_atomic(page, html(found, args.data, args.top))
    for line in lines(found, args.top, args.explain):
        print(line)
    print(f"\npage:    {page}")
    print(f"next:    foretune tune {shlex.quote(args.images)} --budget EPOCHS")
    return 0


def lines(found: Recommendation, top: int, explain: bool) -> list[str]:
    """What the screen shows."""
    task, ranking, metric = found.task, found.ranking, found.meta.metric
    out = [f"{task.name}: {len(task.labels)} images, {task.num_classes} classes"]
    out.append(
        f"  {found.recommender}, fitted on {len(ranking.past.tasks)} past tasks x "
        f"{len(ranking.past.config_ids)} configurations"
        + (
            f", {len(found.own.measured)} of them your own studies (own_models)"
            if found.own.measured
            else ""
        )
    )
    if found.passed_over:
        out.append(f"  {found.passed_over}")
    out.append("")
    out.append(support_text(found))
    for name in nearest_of(found):
        best = [
            f"best was {describe(c)} with {metric} {score(metric, v)}"
            for c, v in found.worked_on(name, 1)
        ]
        out.append(
            f"  {name} ({100 * ranking.nearest[name]:.0f} %): "
            f"{best[0] if best else 'none was trained to the end'}"
        )
    rows = found.rows[:top]
    names = list(found.meta.space.names)
    table = [["", *names, forecast_of(found)]]
    table += [[str(k), *cells(row, names), forecast(row, metric)] for k, row in enumerate(rows, 1)]
    widths = [max(len(line[c]) for line in table) for c in range(len(table[0]))]
    shown = [
        f"{line[0]:>3}  "
        + "  ".join(
            f"{text:<{width}}" for text, width in zip(line[1:], widths[1:], strict=True)
        ).rstrip()
        for line in table
    ]
    out += ["", shown[0]]
    for row, line in zip(rows, shown[1:], strict=True):
        out.append(line)
        if explain:
            out += [f"       {text}" for text in reasons(row, found)]
    return out


def cells(row: Row, names: Sequence[str]) -> list[str]:
    """The configuration's values, empty where inactive."""
    return [number(row.config[n]) if n in row.config else "" for n in names]


def nearest_of(found: Recommendation) -> list[str]:
    """The past tasks to show: none where all count alike, and none beside the images' own."""
    return list(found.ranking.nearest)[:NEAREST] if found.looked and found.known_as is None else []


def support_text(found: Recommendation) -> str:
    """How far the past supports the answer."""
    ranking = found.ranking
    if found.known_as is not None:
        measured = sum(row.measured for row in found.rows)
        return (
            f"These very images are the past task {found.known_as}: the order is that of what "
            f"was measured on them, {measured} of {len(found.rows)} "
            "configurations"
            + (
                ", and the others stand where a forecast from those puts them. "
                if measured < len(found.rows)
                else ". "
            )
            + "The best of many measured values is a little lucky."
        )
    if not found.looked:
        return "This recommender looks at no images: all past tasks count alike."
    if ranking.supported:
        if ranking.leans is None:
            return (
                "The order is a model's, fitted on all past tasks, in which none of them has "
                "a share of its own. Nearest past tasks, which set the level "
                "of the forecast, and what worked on them:"
            )
        if ranking.base is None:
            return "Nearest past tasks, their weight in the answer, and what worked on them:"
        first = found.rows[:FIRST]
        others = sum(
            row.without_images >= len(first) for row in first if row.without_images is not None
        )
        return (
            f"The order is what worked on all {len(ranking.past.tasks)} past tasks, moved by "
            f"the images, which brought {others or 'none'} of the first "
            f"{len(first)} there. Nearest past tasks, which set the level of the forecast, "
            "and what worked on them:"
        )
    return (
        "No past task looks like this one: it lies further from all of them than any of them "
        "from its nearest. "
        "The list is therefore their greedy portfolio, which looks at no images. The least "
        "unlike, and what worked on them:"
    )


def forecast(row: Row, metric: str) -> str:
    """The predicted value and its spread.

    Or the measured one, without, and what stands between those.
    """
    if row.predicted is None:
        return ""
    if row.measured:
        return score(metric, row.predicted) if math.isfinite(row.predicted) else "diverged"
    spread = "" if row.spread is None else f" ± {score(metric, row.spread).removesuffix(' %')}"
    return (
        score(metric, row.predicted)
        + spread
        + (", a forecast" if row.spread is None and not row.measured else "")
    )


def forecast_of(found: Recommendation) -> str:
    """The heading over `forecast`, empty where there is none."""
    if found.known_as is not None:
        return f"{found.meta.metric} measured on these images"
    return f"expected {found.meta.metric}" if found.rows[0].predicted is not None else ""


def reasons(row: Row, found: Recommendation) -> list[str]:
    """What a suggestion leans on: past tasks, past runs, and what the images add."""
    ranking, metric = found.ranking, found.meta.metric
    n, tasks = len(ranking.past.config_ids), len(ranking.past.tasks)
    if found.known_as is not None:
        if not row.reasons:
            return [
                "not trained to the end on these images: forecast from what the study "
                f"{found.known_as} has tried"
            ]
        return [f"measured on these very images, as the past task {found.known_as}"]
    said = {"leans": "leans on {}", "best": "did best on {}", "worst": "did worst on {}"}
    out = []
    if row.without_images is not None:
        out.append(
            f"place {row.without_images + 1} in the mean list of all {tasks} past tasks, "
            "which count alike"
        )
        if row.from_images is not None:
            change = f"{row.from_images:+.4g} {metric}"
            if is_share(metric):
                change = f"{100 * row.from_images:+.2f} percentage points of {metric}"
            out.append(f"the images add {change} to what that list expects")
    elif row.reasons and ranking.all_alike:
        out.append(f"all {tasks} past tasks count alike in this list")
    elif row.reasons and ranking.leans is None:
        out.append(f"a model of all {tasks} past tasks says so: no past run has a share of its own")
    for r in row.reasons:
        share = f" ({100 * r.weight:.0f} %)" if r.said == "leans" else ""
        # or it is a forecast
        place = "" if r.task in found.own.measured else f"was number {r.rank + 1} of {n} with "
        out.append(
            f"{said[r.said].format(r.task)}{share}: there it {place or 'reached '}{metric} "
            f"{score(metric, r.value)}"
        )
    return out


def as_json(found: Recommendation, top: int) -> dict[str, Any]:
    """For programs."""
    return {
        "task": found.task.name,
        "recommender": found.recommender,
        "known_as": found.known_as,
        "own_studies": list(found.own.measured),
        "passed_over": found.passed_over or None,
        "supported": found.ranking.supported,
        "support": round(found.ranking.support, 4),
        "nearest": {k: round(v, 4) for k, v in found.ranking.nearest.items()},
        "leans": {k: round(v, 4) for k, v in (found.leans or {}).items()},
        "metric": found.meta.metric,
        "ranking": [
            {
                "config": row.config,
                "predicted": finite(row.predicted),
                "spread": row.spread,
                "measured": row.measured,
                "without_images": None if row.without_images is None else row.without_images + 1,
                "from_images": row.from_images,
                "because": [
                    {
                        "task": r.task,
                        "rank": r.rank,
                        "value": finite(r.value),
                        "weight": r.weight,
                        "said": r.said,
                    }
                    for r in row.reasons
                ],
            }
            for row in found.rows[:top]
        ],
    }


def finite(value: float | None) -> float | None:
    """A number for JSON: none where there is none, as of a trial that diverged."""
    return value if value is not None and math.isfinite(value) else None


def html(found: Recommendation, data: Path, top: int) -> str:
    """The page."""
    metric = found.meta.metric
    nearest = []
    for name in nearest_of(found):
        file = (
            data / name / "task.npz"
            if name in found.own.measured
            else data / "images" / f"{name}.npz"
        )
        picture = (
            data_uri(sheet_png(Task.load(file), per_class=6, max_classes=6))
            if file.exists()
            else ""
        )
        best = [(describe(config), score(metric, value)) for config, value in found.worked_on(name)]
        nearest.append((name, f"{100 * found.ranking.nearest[name]:.0f} %", picture, best))
    names = list(found.meta.space.names)
    table = [
        (k, cells(row, names), forecast(row, metric), reasons(row, found))
        for k, row in enumerate(found.rows[:top], 1)
    ]
    return render(
        "recommendation.html",
        title=f"{found.task.name}: recommended configurations",
        task=found.task,
        picture=data_uri(sheet_png(found.task, per_class=6, max_classes=8)),
        recommender=found.recommender,
        past=len(found.ranking.past.tasks),
        supported=found.ranking.supported,
        support=f"{100 * found.ranking.support:.0f} %",
        known_as=found.known_as,
        heading=forecast_of(found),
        text=support_text(found),
        nearest=nearest,
        names=names,
        metric=metric,
        table=table,
    )
