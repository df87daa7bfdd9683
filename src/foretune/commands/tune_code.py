"""`foretune tune --command` and `foretune.tune(function, ...)`: a study of somebody's own code with
progress, log and report, as `foretune tune IMAGES` has them.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.commands.study_report import write_study_report
from foretune.running.code_question import Code, Question
from foretune.running.code_study import (
    CodeReady,
    CodeTuned,
    finish,
    opened,
    run,
)
from foretune.running.workers import Workers
from foretune.searchers.when_done import said_of_stop, useless_stop
from foretune.study.study import Study
from foretune.views.progress import progress
from foretune.views.summary import duration, number, spelled, spent_of
from foretune.views.tracking import Tracker


@dataclass(frozen=True)
class Done:
    """What a study left: the best configuration, its report, and whether MLflow has all of it."""

    tuned: CodeTuned
    report: Path
    logged: bool


def tune_code(
    question: Question,
    tracking: str | None,
    workers: Callable[[Code, int], Workers] | None = None,
    beside: Callable[[Path], AbstractContextManager[Any]] = nullcontext,
) -> Done:
    """Run or continue the study of a question, shown and logged as it goes; `tracking` is MLflow's
    address (None: the default, `none`: off), `workers` makes what so many trials run on at a time
    (None: processes of this machine); `beside` is held, with the study's folder, while it runs.
    Raises `BadInput`, and KeyboardInterrupt with the
    study as it stands.
    """
    tracker = (
        None
        if tracking == "none"
        else Tracker(
            tracking, question.request.data, warn=lambda line: print(f"  {line}", file=sys.stderr)
        )
    )
    with opened(question) as ready:
        announce(ready)
        try:
            with beside(ready.folder):
                tuned = logged(ready, tracker, workers)
        except KeyboardInterrupt:
            print(f"\nstopped; the same command continues it ({spent_of(ready.study)} are done)")
            raise
        report = write_study_report(ready.folder, None)
        if tracker:
            for path in (report, ready.folder / "best.yaml"):
                tracker.attach(ready.study, path)
            tracker.close(ready.study)
        summarise(ready, tuned, report, tracker)
    return Done(tuned, report, tracker is None or tracker.complete)


def logged(
    ready: CodeReady,
    tracker: Tracker | None,
    workers: Callable[[Code, int], Workers] | None,
) -> CodeTuned:
    """Train with progress on the screen and in MLflow, also when it is stopped."""
    with ExitStack() as broken_off:
        if tracker:
            broken_off.callback(tracker.close, ready.study)
        with progress(ready.study) as show:

            def changed(study: Study) -> None:
                show(study)
                if tracker:
                    tracker.submit(study)

            count = ready.question.request.workers
            pool = workers(ready.objective, count) if workers else None
            run(ready, workers=pool, on_change=changed)
        tuned = finish(ready)
        broken_off.pop_all()
    return tuned


def announce(ready: CodeReady) -> None:
    """What is about to happen."""
    study, plan = ready.study, ready.study.plan
    goal = "large" if plan.goal == "maximize" else "small"
    print(f"{plan.task}: {plan.metric} is to be {goal} · {plan.method} · {study.max_epoch} epochs")
    wanted = ready.question.request.stop_when_done
    for line in (*ready.question.lines, *useless_stop(wanted, plan)):
        print(f"  {line}")
    if study.spent:
        print(f"  continuing study {ready.folder.name}: {spent_of(study)} are done")


def summarise(ready: CodeReady, tuned: CodeTuned, report: Path, tracker: Tracker | None) -> None:
    """What came out."""
    study = ready.study
    if study.out_of_time and study.plan.budget is not None:
        print(f"stopped by the time limit after {spent_of(study)}")
    if (line := said_of_stop(study)) is not None:
        print(line)
    print(
        f"\nbest configuration of {len(study.started)} tried in {study.spent} epochs and "
        f"{duration(study.elapsed)}:"
    )
    print(f"  {spelled(tuned.best)}")
    print(f"  {tuned.metric} {number(tuned.value)} (epoch {tuned.epoch})")
    if study.failures:
        print(f"  {len(study.failures)} trials failed; the report says why")
    if tuned.command is not None:
        print(f"\nonce more:  {tuned.command}")
    if tuned.checkpoint is not None:
        print(f"checkpoint: {tuned.checkpoint}")
    print(f"best.yaml:  {tuned.folder}")
    print(f"report:     {report}")
    if tracker:
        for what, where in tracker.directions(study):
            print(f"{what + ':':<19} {where}")
