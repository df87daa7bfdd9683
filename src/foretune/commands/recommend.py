"""`foretune recommend`: the ranking on the screen, as JSON, and as a page with thumbnails."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretune.commands.cli import check_output
from foretune.errors import BadInput, as_argument, few
from foretune.files import write_atomic
from foretune.history.join import PREFIX, joinable
from foretune.recommenders.own import settings_of
from foretune.recommenders.recommendation import Recommendation, Suggestion, recommend
from foretune.running.first_runs import (
    FirstRun,
    FirstRuns,
    HeldOut,
    first_runs,
    trainer_named,
    training_minutes,
    training_settings,
)
from foretune.study.own_studies import found_studies
from foretune.tasks.task import Task
from foretune.views.report import data_uri, render
from foretune.views.sheet import sheet_png
from foretune.views.summary import describe, is_share, number, score

NEAREST = 3  # past tasks that are shown
MINUTES = "minutes"
FIRST = 10  # suggestions of which it is said how many the images brought there


def run(args: argparse.Namespace) -> int:
    """Rank, print and write the page."""
    if args.top < 1:
        raise BadInput(f"--top {args.top} must be at least 1")
    check_output(args.out)
    if args.json and args.out is not None:
        raise BadInput("--json prints the ranking and writes no page: leave out --out")
    if args.trainer is None and (wrong := only_for(args)):
        raise BadInput(f"{wrong} says what another trainer is to do: give --for too")
    if args.trainer is not None:
        trainer_named(args.trainer)
        if args.out is not None:
            raise BadInput("--for prints command lines and writes no page: leave out --out")
    answer = recommend(
        args.images,
        data=args.data,
        meta=args.meta,
        recommender=args.recommender,
        seed=args.seed,
        own=not args.no_own_studies,
        without=args.without,
    )
    if args.trainer is not None:
        return print_first_runs(args, answer)
    if args.json:
        print(json.dumps(as_json(answer, args.top), indent=1))
        return 0
    name = f"{answer.task.name}-{answer.task.hash[:6]}-{answer.recommender}.html"
    page = args.out or args.data / "recommendations" / name
    write_atomic(page, html(answer, args.data, args.top, args.images))
    for line in lines(answer, args.top, args.explain):
        print(line)
    if not args.no_own_studies and (line := own_left_out(answer, args.data)):
        print(f"\n{line}")
    print(f"\npage:    {page}")
    print(f"next:    foretune tune {as_argument(args.images)} --budget EPOCHS")
    return 0


def only_for(args: argparse.Namespace) -> str | None:
    """An option that is given and means something with --for alone."""
    given = {
        "--network": args.network,
        "--image-size": args.image_size,
        "--epochs": args.epochs,
    }
    return next((name for name, value in given.items() if value is not None), None)


def print_first_runs(args: argparse.Namespace, answer: Recommendation) -> int:
    """The first runs to make with another trainer, for people or for programs."""
    first = first_runs(
        answer,
        args.trainer,
        images=args.images,
        network=args.network,
        image_size=args.image_size,
        epochs=args.epochs,
    )
    if args.json:
        print(json.dumps(first_runs_json(answer, first), indent=1))
    else:
        print("\n".join(first_runs_lines(answer, first)))
    return 0


def first_runs_lines(answer: Recommendation, first: FirstRuns) -> list[str]:
    """The first runs, as the screen shows them: each a line to type, then what is to be known."""
    task, metric = answer.task, answer.meta.metric
    out = [
        f"{task.name}: {len(task.labels)} images, {task.num_classes} classes; the first "
        f"{len(first.runs)} runs with {first.trainer}",
        f"confidence: {first.confidence.level} ({'; '.join(first.confidence.why)})",
    ]
    if first.held_out is not None:
        out.append(held_out_text(first.held_out, len(first.runs), metric))
    for k, run in enumerate(first.runs, 1):
        expected = forecast(run.row, metric)
        head = [
            f"{k}. " + ", ".join(f"{n} {number(v)}" for n, v in run.row.config.items()),
            f"expected {metric} {expected} in the past's setting" if expected else "",
            "" if run.minutes is None else f"about {run.minutes:.2g} min",
        ]
        out += ["", "; ".join(text for text in head if text), f"   {run.command}"]
        out += [f"   not said: {'; '.join(run.unsaid)}"] if run.unsaid else []
        out += [f"   nearly: {'; '.join(run.nearly)}"] if run.nearly else []
        out += [f"   {text}" for text in reasons(run.row, answer)[:NEAREST]]
    out.append("")
    if first.passed_over:
        out.append(
            f"passed over: {first.passed_over} with a better forecast that {first.trainer} cannot "
            f"be told: {few(first.because_of, '; ')}"
        )
    out += [f"note: {note}" for note in first.notes]
    out.append(minutes_text(first))
    out.append(
        f"then: foretune next runs --task {as_argument(task.name)} --for {first.trainer}, which "
        "goes by what these gave"
    )
    return out


def held_out_text(found: HeldOut, count: int, metric: str) -> str:
    """What is known of the worth of the first runs."""
    median, worst = (
        f"{100 * gap:.1f} points" if is_share(metric) else f"{gap:.3g}"
        for gap in (found.median, found.worst)
    )
    return (
        f"  on {found.tasks} past tasks, left out with their like, the best of the first {count} "
        f"came within {median} of the best of all (median; {worst} at worst), by a list that "
        "looks at no images"
    )


def minutes_text(first: FirstRuns) -> str:
    """What the minutes mean."""
    from foretune.training.cost import SPREAD

    if first.like is None:
        return f"Minutes: not known of {first.network or 'this network'}."
    as_if = "" if first.like == first.network else f" (reckoned as {first.like})"
    return (
        f"Minutes: {first.epochs} epochs at {first.image_size} px on {first.images:,} images on "
        f"this machine's {'GPU' if first.gpu else 'CPU cores'}{as_if}, a guess to a factor of "
        f"{SPREAD:g}."
    )


def first_runs_json(answer: Recommendation, first: FirstRuns) -> dict[str, Any]:
    """The first runs, for programs."""
    found = first.held_out

    def run_json(run: FirstRun) -> dict[str, Any]:
        return {
            "command": run.command,
            "arguments": list(run.arguments),
            "config": run.row.config,
            "place": run.place,
            "not_said": list(run.unsaid),
            "nearly": list(run.nearly),
            "expected": finite(run.row.predicted),
            "spread": run.row.spread,
            "measured": run.row.measured,
            "minutes": None if run.minutes is None else round(run.minutes, 3),
            "because": reasons(run.row, answer),
        }

    return {
        "task": answer.task.name,
        "trainer": first.trainer,
        "network": first.network,
        "metric": answer.meta.metric,
        "past": dict(first.about),
        "confidence": first.confidence.level,
        "confidence_because": list(first.confidence.why),
        "held_out": None
        if found is None
        else {"tasks": found.tasks, "median": found.median, "worst": found.worst},
        "runs": [run_json(run) for run in first.runs],
        "passed_over": first.passed_over,
        "passed_over_because": list(first.because_of),
        "notes": [*first.notes, minutes_text(first)],
    }


def lines(answer: Recommendation, top: int, explain: bool) -> list[str]:
    """What the screen shows."""
    task, ranking, metric = answer.task, answer.ranking, answer.meta.metric
    out = [f"{task.name}: {len(task.labels)} images, {task.num_classes} classes"]
    studies = len(answer.own.measured)
    out.append(
        f"  {answer.recommender}, fitted on {len(ranking.past.tasks)} past tasks x "
        f"{len(ranking.past.config_ids)} configurations"
        + (f", {studies} of them your own studies (own_models)" if studies else "")
    )
    if answer.passed_over:
        out.append(f"  {answer.passed_over}")
    out.append("")
    out.append(support_text(answer))
    for name in nearest_of(answer):
        best = [
            f"best was {describe(c)} with {metric} {score(metric, v)}"
            for c, v in answer.worked_on(name, 1)
        ]
        out.append(
            f"  {name} ({100 * ranking.nearest[name]:.0f} %): "
            f"{best[0] if best else 'none was trained to the end'}"
        )
    rows = answer.rows[:top]
    names = list(answer.meta.space.names)
    took = minutes_of(answer, rows)
    table = [["", *names, forecast_of(answer), MINUTES if took else ""]]
    table += [
        [str(k), *cells(row, names), forecast(row, metric), told_minutes(took, k - 1)]
        for k, row in enumerate(rows, 1)
    ]
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
            out += [f"       {text}" for text in reasons(row, answer)]
    if took:
        out += ["", cost_text(answer, took)]
    return out


def minutes_of(answer: Recommendation, rows: Sequence[Suggestion]) -> list[float]:
    """Minutes that a full training of each suggestion takes here; none where nothing is known."""
    settings = training_settings(answer)
    return training_minutes([row.config for row in rows], settings, answer.task)


def told_minutes(took: Sequence[float], k: int) -> str:
    """The minutes of the k-th suggestion in two digits that count; empty where they are not
    known.
    """
    return f"{float(f'{took[k]:.2g}'):g}" if took else ""


def cost_text(answer: Recommendation, took: Sequence[float]) -> str:
    """What the minutes mean."""
    from foretune.training.cost import SPREAD

    if not took:
        return ""
    settings = training_settings(answer)
    images = min(
        int((answer.task.split == 0).sum()), settings.train_limit or len(answer.task.labels)
    )
    return (
        f"Minutes: {settings.max_epoch} epochs of {settings.network} at {settings.image_size} px on "
        f"{images:,} images here, a guess to a factor of {SPREAD:g} that tune corrects as it goes."
    )


def own_left_out(answer: Recommendation, data: Path) -> str:
    """The user's own studies that the list does not know, and why; empty where there are none."""
    found = found_studies(data / "studies", settings_of(answer.meta))
    why = dict(found.left_out)
    for study in found.studies:
        if study.tasks[0] not in answer.own.measured:
            other = not joinable(study, answer.meta)
            remedy = "not fitted yet: python -m foretune.running.meta_train"
            why[study.tasks[0].removeprefix(PREFIX)] = (
                "another space or length" if other else remedy
            )
    names = [f"{name} ({reason})" for name, reason in why.items()]
    which = "own study" if len(names) == 1 else "own studies"
    return f"{which} not in the list: {few(names, ', ')}" if names else ""


def cells(row: Suggestion, names: Sequence[str]) -> list[str]:
    """The configuration's values, empty where inactive."""
    return [number(row.config[n]) if n in row.config else "" for n in names]


def nearest_of(answer: Recommendation) -> list[str]:
    """The past tasks to show: none where all count alike, and none beside the images' own."""
    if answer.known_as is not None or not answer.tells_tasks_apart:
        return []
    return list(answer.ranking.nearest)[:NEAREST]


def support_text(answer: Recommendation) -> str:
    """How far the past supports the answer."""
    ranking, explanation = answer.ranking, answer.explanation
    if answer.known_as is not None:
        measured = sum(row.measured for row in answer.rows)
        others = ""
        if measured < len(answer.rows):
            others = ", and the others stand where a forecast from those puts them"
        return (
            f"These very images are the past task {answer.known_as}: the order is that of what was "
            f"measured on them, {measured} of {len(answer.rows)} configurations{others}. The best "
            "of many measured values is a little lucky."
        )
    if not answer.tells_tasks_apart:
        return "This recommender looks at no images: all past tasks count alike."
    if ranking.supported:
        if explanation.shares is None:
            return (
                "The order is a model's, fitted on all past tasks, in which none of them has a "
                "share of its own. Nearest past tasks, which set the level of the forecast, and "
                "what worked on them:"
            )
        if ranking.base is None:
            return "Nearest past tasks, their weight in the answer, and what worked on them:"
        first = answer.rows[:FIRST]
        moved = sum(
            row.without_images >= len(first) for row in first if row.without_images is not None
        )
        return (
            f"The order is what worked on all {len(ranking.past.tasks)} past tasks, moved by the "
            f"images, which brought {moved or 'none'} of the first {len(first)} there. Nearest "
            "past tasks, which set the level of the forecast, and what worked on them:"
        )
    return (
        "No past task looks like this one: it lies further from all of them than any of them from "
        "its nearest. The list is therefore their greedy portfolio, which looks at no images. The "
        "least unlike, and what worked on them:"
    )


def forecast(row: Suggestion, metric: str) -> str:
    """The measured value, or the predicted one with its spread; empty where there is neither."""
    if row.predicted is None:
        return ""
    if row.measured:
        return score(metric, row.predicted) if math.isfinite(row.predicted) else "diverged"
    if row.spread is None:
        return f"{score(metric, row.predicted)}, a forecast"
    return f"{score(metric, row.predicted)} ± {score(metric, row.spread).removesuffix(' %')}"


def forecast_of(answer: Recommendation) -> str:
    """The heading over `forecast`, empty where there is none."""
    if answer.known_as is not None:
        return f"{answer.meta.metric} measured on these images"
    return f"expected {answer.meta.metric}" if answer.rows[0].predicted is not None else ""


def reasons(row: Suggestion, answer: Recommendation) -> list[str]:
    """What a suggestion leans on: past tasks, past runs, and what the images add."""
    ranking, explanation, metric = answer.ranking, answer.explanation, answer.meta.metric
    n, tasks = len(ranking.past.config_ids), len(ranking.past.tasks)
    if answer.known_as is not None:
        if not row.reasons:
            return [
                "not trained to the end on these images: forecast from what the study "
                f"{answer.known_as} has tried"
            ]
        return [f"measured on these very images, as the past task {answer.known_as}"]
    texts = {"leans": "leans on {}", "best": "did best on {}", "worst": "did worst on {}"}
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
    elif row.reasons and explanation.equal:
        out.append(f"all {tasks} past tasks count alike in this list")
    elif row.reasons and explanation.shares is None:
        out.append(f"a model of all {tasks} past tasks says so: no past run has a share of its own")
    for r in row.reasons:
        share = f" ({100 * r.weight:.0f} %)" if r.kind == "leans" else ""
        # or it is a forecast
        place = "" if r.task in answer.own.measured else f"was number {r.rank + 1} of {n} with "
        out.append(
            f"{texts[r.kind].format(r.task)}{share}: there it {place or 'reached '}{metric} "
            f"{score(metric, r.value)}"
        )
    return out


def as_json(answer: Recommendation, top: int) -> dict[str, Any]:
    """For programs."""
    took = minutes_of(answer, answer.rows[:top])
    return {
        "task": answer.task.name,
        "recommender": answer.recommender,
        "known_as": answer.known_as,
        "own_studies": list(answer.own.measured),
        "passed_over": answer.passed_over or None,
        "supported": answer.ranking.supported,
        "support": round(answer.ranking.support, 4),
        "nearest": {k: round(v, 4) for k, v in answer.ranking.nearest.items()},
        "leans": {k: round(v, 4) for k, v in (answer.shares or {}).items()},
        "metric": answer.meta.metric,
        "ranking": [
            {
                "config": row.config,
                "predicted": finite(row.predicted),
                "spread": row.spread,
                "measured": row.measured,
                "minutes": round(took[k], 3) if took else None,
                "without_images": None if row.without_images is None else row.without_images + 1,
                "from_images": row.from_images,
                "because": [
                    {
                        "task": r.task,
                        "rank": r.rank,
                        "value": finite(r.value),
                        "weight": r.weight,
                        "said": r.kind,
                    }
                    for r in row.reasons
                ],
            }
            for k, row in enumerate(answer.rows[:top])
        ],
    }


def finite(value: float | None) -> float | None:
    """A number for JSON: none where there is none, as of a trial that diverged."""
    return value if value is not None and math.isfinite(value) else None


def html(answer: Recommendation, data: Path, top: int, images: str) -> str:
    """The page: what to try first, then why. `images` as the user named them."""
    metric = answer.meta.metric
    nearest = []
    for name in nearest_of(answer):
        own = name in answer.own.measured
        file = data / name / "task.npz" if own else data / "images" / f"{name}.npz"
        picture = ""
        if file.exists():
            picture = data_uri(sheet_png(Task.load(file), per_class=6, max_classes=6))
        best = [
            (describe(config), score(metric, value)) for config, value in answer.worked_on(name)
        ]
        nearest.append((name, f"{100 * answer.ranking.nearest[name]:.0f} %", picture, best))
    names = list(answer.meta.space.names)
    rows = answer.rows[:top]
    took = minutes_of(answer, rows)
    table = [
        (
            k,
            cells(row, names),
            forecast(row, metric),
            told_minutes(took, k - 1),
            reasons(row, answer),
        )
        for k, row in enumerate(rows, 1)
    ]
    first = [(name, text) for name, text in zip(names, table[0][1], strict=True) if text]
    return render(
        "recommendation.html",
        title=f"{answer.task.name}: recommended configurations",
        task=answer.task,
        picture=data_uri(sheet_png(answer.task, per_class=6, max_classes=8)),
        recommender=answer.recommender,
        past=len(answer.ranking.past.tasks),
        supported=answer.ranking.supported,
        support=f"{100 * answer.ranking.support:.0f} %",
        known_as=answer.known_as,
        heading=forecast_of(answer),
        text=support_text(answer),
        nearest=nearest,
        names=names,
        metric=metric,
        table=table,
        first=first,
        minutes=MINUTES if took else "",
        cost=cost_text(answer, took),
        command=f"foretune tune {as_argument(images)} --budget EPOCHS",
    )
