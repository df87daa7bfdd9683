"""`foretune next`: the run to make next after whatever was logged."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from foretune import shipped
from foretune.errors import BadInput, few, plural
from foretune.history.runs import RunStore
from foretune.running.first_runs import trainer_named
from foretune.running.history import Source, sources_of
from foretune.running.next_run import (
    NextRun,
    in_words,
    is_classifier,
    next_run,
    open_store,
    task_named,
)
from foretune.views.summary import number, score

HELD = 8  # settings of the runs that are shown


def run(args: argparse.Namespace) -> int:
    """Read what was logged, and say what to run."""
    if args.trainer is not None:
        trainer_named(args.trainer)
    elif args.images:
        raise BadInput(f"--images {args.images} goes into a command line: give --for too")
    if args.images and not Path(args.images).is_dir():
        raise BadInput(f"--images {args.images}: there is no such folder")
    if args.seed < 0:
        raise BadInput(f"--seed {args.seed} must be at least 0")
    found = found_next(
        args.store,
        args.task,
        data=args.data,
        format_=args.format,
        new=args.new,
        vary=args.vary,
        meta=args.meta,
        own=not args.no_own_studies,
        seed=args.seed,
    )
    if args.json:
        print(json.dumps(as_json(found, args.trainer, args.images or ""), indent=1))
    else:
        print("\n".join(lines(found, args.trainer, args.images or "")))
    return 0


def found_next(
    store: str,
    task: str | None,
    *,
    data: Path,
    format_: str = "auto",
    new: bool = False,
    vary: tuple[str, ...] = (),
    meta: str = "light",
    own: bool = True,
    seed: int = 0,
) -> NextRun:
    """The next run for a store as the user names it. Raises `BadInput`."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # of matrices of a few hundred rows threads cost more than they bring
    with threadpool_limits(1):
        runs = open_store(store, data, format_)
        known = histories(runs, store, data, meta, own)
        return next_run(runs, task_named(runs, task, new), sources=known, vary=vary, seed=seed)


def histories(runs: RunStore, store: str, data: Path, meta: str, own: bool) -> list[Source]:
    """What is known beside a store: foretune's own table for image classifiers, studies, and the
    other stores. Raises `BadInput` for a table that is not there.
    """
    if meta != "none":
        shipped.need("meta", meta, data)
    name = Path(store).name
    return [
        source
        for source in sources_of(data, meta, own=own, table=is_classifier(runs))
        if source.name != name and not source.fault
    ]


def lines(found: NextRun, trainer: str | None, images: str) -> list[str]:
    """What the screen shows."""
    metric = found.metric
    out = [
        f"{found.task}: {found.runs} {plural('run', found.runs)} of it, "
        f"{found.past_runs:,} {plural('run', found.past_runs)} of {found.past_tasks} other "
        f"{plural('task', found.past_tasks)}",
        "next:     " + ", ".join(f"{shown(n)} {number(v)}" for n, v in found.config.items()),
    ]
    if found.held:
        out.append(
            "held:     " + ", ".join(f"{shown(n)} {number(v)}" for n, v in found.held.items())
        )
    out.append(f"why:      {why(found)}")
    spread = score(metric, found.spread).removesuffix(" %")
    expected = f"{metric} {score(metric, found.expected)} ± {spread}"
    if found.best is not None and found.chance is not None:
        expected += (
            f"; a chance of {100 * found.chance:.0f} % to beat {score(metric, found.best)} "
            f"({found.best_run})"
        )
    out.append(f"expected: {expected}")
    if found.minutes is not None:
        out.append(f"minutes:  {found.minutes:.2g}, as earlier runs took")
    out += [f"note:     {note}" for note in found.notes]
    if trainer is not None:
        said, notes = in_words(found, trainer, images)
        out += ["", shlex.join(said.words)]
        out += [f"  not said: {few(said.unsaid, '; ', 6)}"] if said.unsaid else []
        out += [f"  nearly: {'; '.join(said.nearly)}"] if said.nearly else []
        out += [f"  note: {note}" for note in notes]
    return out


def shown(name: str) -> str:
    """A column's name as its owner knows it."""
    return name.removeprefix("extra.")


def why(found: NextRun) -> str:
    """The reason in a sentence."""
    what = "the largest expected improvement" if found.best is not None else "the best forecast"
    of = "" if found.parent_task == found.task else f" of {found.parent_task}"
    parts = [
        f"{shown(n)} {number(new)} in place of {'none' if old is None else number(old)}"
        for n, (old, new) in found.changed.items()
    ]
    what += f": run {found.parent}{of} with {', '.join(parts)}" if parts else (
        f": as run {found.parent}{of}"
    )  # fmt: skip
    if found.past:
        leans = ", ".join(found.past)
        what += f"; leans on {leans}"
    if found.trust:
        what += f"; history counts {100 * (1 - found.trust.get('none', 0.0)):.0f} %"
    return what


def as_json(found: NextRun, trainer: str | None = None, images: str = "") -> dict[str, Any]:
    """For programs."""
    out: dict[str, Any] = {
        "task": found.task,
        "metric": found.metric,
        "goal": found.goal,
        "config": dict(found.config),
        "held": dict(found.held),
        "epochs": found.epochs,
        "expected": found.expected,
        "spread": found.spread,
        "best": found.best,
        "best_run": found.best_run,
        "chance": found.chance,
        "minutes": found.minutes,
        "why": why(found),
        "parent": found.parent,
        "parent_task": found.parent_task,
        "changed": {n: {"from": old, "to": new} for n, (old, new) in found.changed.items()},
        "runs": found.runs,
        "past": {"runs": found.past_runs, "tasks": found.past_tasks, "leans": dict(found.past)},
        "trust": dict(found.trust),
        "notes": list(found.notes),
    }
    if trainer is not None:
        said, notes = in_words(found, trainer, images)
        out |= {
            "trainer": trainer,
            "command": shlex.join(said.words),
            "arguments": list(said.words),
            "not_said": list(said.unsaid),
            "nearly": list(said.nearly),
        }
        out["notes"] += notes
    return out
