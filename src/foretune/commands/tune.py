"""`foretune tune`: the study, what it is compared with, and everything that is handed over at the
end.
"""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from foretune.commands.study_report import write_study_report
from foretune.errors import plural
from foretune.history.join import PREFIX
from foretune.running.costs import Beginning
from foretune.running.options import given
from foretune.running.request import Request
from foretune.running.tuning import (
    BASELINES,
    Prepared,
    Tuned,
    baseline,
    finish,
    prepared,
)
from foretune.running.tuning import run as run_ready
from foretune.searchers.registry import method
from foretune.study.notes import RankingNote
from foretune.study.study import Study
from foretune.views.progress import Decoding, progress
from foretune.views.summary import duration, spelled, spent_of
from foretune.views.tracking import Tracker

LOG_INCOMPLETE = 3  # exit code: everything was trained and written, but MLflow lacks some of it


def request(args: argparse.Namespace) -> Request:
    """The command line as a request."""
    return Request(**given(Request, args))


def run(args: argparse.Namespace) -> int:
    """Tune, compare if asked to, and print what came out."""
    asked = request(args)
    if asked.script:
        return run_script(asked, args.tracking)
    began = Beginning.of_process()
    tracker = (
        None
        if args.tracking == "none"
        else Tracker(
            args.tracking, args.data, warn=lambda line: print(f"  {line}", file=sys.stderr)
        )
    )
    with prepared(asked, Decoding(), began) as ready:
        announce(ready)
        try:
            tuned = tune(ready, tracker)
        except KeyboardInterrupt:
            again = f"the same command continues it ({spent_of(ready.study)} are done)"
            print(f"\nstopped; {again}. Nothing is lost but the epochs that were in flight.")
            return 130
        report = write_study_report(ready.folder, None)
        if tracker:
            for path in (report, ready.folder / "best.yaml"):
                tracker.attach(ready.study, path)
            tracker.close(ready.study)
        summarise(ready, tuned, report, tracker)
    return LOG_INCOMPLETE if tracker and not tracker.complete else 0


def run_script(asked: Request, tracking: str | None) -> int:
    """Tune the user's script."""
    from foretune.commands.tune_code import tune_code
    from foretune.running.code_study import command_question

    try:
        done = tune_code(command_question(asked), tracking)
    except KeyboardInterrupt:
        return 130
    return 0 if done.logged else LOG_INCOMPLETE


def tune(ready: Prepared, tracker: Tracker | None) -> Tuned:
    """Run the study and, if asked to, its baselines; each is logged as it goes, also when it is
    stopped.
    """
    tuned = logged(ready, tracker, lambda: finish(ready))
    others: dict[str, Tuned] = {}
    with ExitStack() as broken_off:
        if tracker:
            broken_off.callback(tracker.close, ready.study)
        for kind in BASELINES if ready.request.compare else ():
            other = baseline(ready, kind)
            print(f"for comparison: {BASELINES[kind]} ({other.study.budget} epochs)")
            others[kind] = logged(other, tracker, lambda other=other: finish(other))  # type: ignore[misc]
            if tracker:
                tracker.close(other.study)
        broken_off.pop_all()
    return replace(tuned, compared=others)


def logged(ready: Prepared, tracker: Tracker | None, result: Callable[[], Tuned]) -> Tuned:
    """Train `ready` with progress on the screen and in MLflow, and return `result()`."""
    with ExitStack() as broken_off:
        if tracker:
            # after Ctrl-C too: what was trained belongs into the log
            broken_off.callback(tracker.close, ready.study)
        with progress(ready.study) as show:

            def changed(study: Study) -> None:
                show(study)
                if tracker:
                    tracker.submit(study)

            run_ready(ready, on_change=changed)
        out = result()
        broken_off.pop_all()
    return out


def announce(ready: Prepared) -> None:
    """What is about to happen."""
    task, study, settings = ready.task, ready.study, ready.objective.settings
    train, valid, test = (int((task.split == k).sum()) for k in range(3))
    print(
        f"{task.name}: {len(task.labels)} images, {task.num_classes} classes ({train} train, "
        f"{valid} valid, {test} test)"
    )
    if settings.train_limit and train > settings.train_limit:
        print(
            f"  trials train on {settings.train_limit} of the {train} training images; "
            "--train-limit 0 takes all"
        )
    tasks = study.past.tasks if study.past is not None else []
    own = sum(t.startswith(PREFIX) for t in tasks)
    past = (
        f"learning from {len(tasks)} past task{'s' * (len(tasks) != 1)}"
        if tasks
        else "without past tasks"
    )
    past += f", {own} of them your own studies" if own else ""
    weights = "ImageNet weights" if settings.pretrained else "random weights"
    weights = weights if settings.weights is None else settings.weights
    print(
        f"  {settings.network} ({weights}) at {settings.image_size} px · {study.plan.method} "
        f"· {past}"
    )
    for line in ready.told:
        print(f"  {line}")
    if study.plan.seconds is not None:
        print(f"  {room_in_time(study)}")
    if (wanted := method(study.plan.method).recommender) is not None:
        print(f"  {ranked_by(study.plan.notes.recommended, wanted)}")
    if study.spent:
        print(f"  continuing study {ready.folder.name}: {spent_of(study)} are done")


def room_in_time(study: Study) -> str:
    """What the time budget has room for, and how sure that is."""
    assert study.plan.seconds is not None
    room = f"{duration(study.plan.seconds)} in all"
    if study.timeless:
        return f"{room}; nothing is known of the network's cost: the first epochs tell"
    pace = study.pace
    log, doubt = float(np.median(pace.log)), float(np.median(pace.doubt))
    left = max(0, study.budget - study.spent)
    return (
        f"{room}: about {left:,} {plural('epoch', left)} of {duration(math.exp(log))} each, "
        f"give or take a factor of {math.exp(doubt):.1f}"
    )


def ranked_by(noted: RankingNote | None, wanted: str) -> str:
    """Where a method's ranking comes from."""
    if noted is None:
        return (
            f"no fitted {wanted} for this past (python -m foretune.pipeline.recommenders): "
            "ranked by the past tasks' mean rank"
        )
    if noted.known_as is not None:
        return (
            f"ranked by {noted.recommender}, which has seen these very images as "
            f"{noted.known_as}: what was measured on them comes first"
        )
    own = len(noted.own_studies)
    fitted = f", fitted on {own} of your own studies too (own_models)" if own else ""
    return f"ranked by {noted.recommender}{fitted}" + (
        "" if noted.supported else ": no past task looks like this one, so by their portfolio"
    )


def summarise(ready: Prepared, tuned: Tuned, report: Path, tracker: Tracker | None) -> None:
    """What came out."""
    study = ready.study
    if study.out_of_time and study.plan.budget is not None:
        print(f"stopped by the time limit after {spent_of(study)}")
    print(
        f"\nbest configuration of {len(study.started)} tried in {study.spent} epochs and "
        f"{duration(study.elapsed)}:"
    )
    print(f"  {spelled(tuned.best)} (epoch {tuned.epoch})")
    rows = [("tuned", tuned)]
    rows += [(BASELINES[kind], other) for kind, other in tuned.compared.items()]
    width = max(len(tuned.metric), *(len(r[0]) for r in rows))
    shown = [("accuracy", lambda one: (one.valid_accuracy, one.test_accuracy))]
    if tuned.metric != "accuracy":
        shown.insert(0, (tuned.metric, lambda one: (one.valid_value, one.test_value)))
    for metric, values in shown:
        print(f"\n  {metric:<{width}}  valid   test   epochs")
        for label, one in rows:
            valid, test = values(one)
            print(f"  {label:<{width}}  {valid:.4f}  {test:.4f}  {one.epochs_spent:>6}")
    print(f"\nbest.yaml, best.pt: {tuned.folder}")
    print(f"report:             {report}")
    if tracker:
        print(f"MLflow UI:          {tracker.ui_command}")
