"""`foretune tune`: the study, what it is compared with, and everything that is handed over at the
end.
"""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from foretune.commands.study_report import (
    artifacts,
    judged_of,
    models_of,
    tests_of,
    use,
    write_study_report,
)
from foretune.errors import few, plural
from foretune.history.join import PREFIX
from foretune.running.costs import Beginning
from foretune.running.final import SHARE, Cost, Final, cost_of, no_room
from foretune.running.options import given
from foretune.running.preparation import Prepared, prepared
from foretune.running.request import Request
from foretune.running.tuning import BASELINES, TEST_PREDICTIONS, Tuned, baseline, finalise, finish
from foretune.running.tuning import run as run_ready
from foretune.searchers.registry import method
from foretune.searchers.when_done import said_of_stop
from foretune.study.notes import RankingNote
from foretune.study.outcome import Row
from foretune.study.own_studies import other_settings
from foretune.study.study import Study
from foretune.training.assessment import Assessment, binomial_error
from foretune.training.settings import Settings
from foretune.views.progress import Decoding, progress
from foretune.views.summary import duration, spelled, spent_of
from foretune.views.tracking import Tracker
from foretune.views.verdict import verdict

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
            for path in artifacts(ready.folder, report):
                tracker.attach(ready.study, path)
            tracker.close(ready.study)
        summarise(ready, tuned, report, tracker)
    return LOG_INCOMPLETE if tracker and not tracker.complete else 0


def run_script(asked: Request, tracking: str | None) -> int:
    """Tune the user's script."""
    from foretune.commands.tune_code import tune_code
    from foretune.running.code_question import command_question

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
    final = finalise(ready, on_start=announce_final, on_epoch=show_epoch)
    if isinstance(final, str):
        print(final)
    else:
        tuned = replace(tuned, final=final)
    others: dict[str, Tuned] = {}
    with ExitStack() as broken_off:
        if tracker:
            broken_off.callback(tracker.close, ready.study)
        for kind in BASELINES if ready.request.compare else ():
            other = baseline(ready, kind)
            print(f"for comparison: {BASELINES[kind]} ({allowed(other.study)})")
            others[kind] = logged(other, tracker, lambda other=other: finish(other))  # type: ignore[misc]
            if tracker:
                tracker.close(other.study)
        broken_off.pop_all()
    return replace(tuned, compared=others)


def allowed(study: Study) -> str:
    """The budget of a study, as words."""
    if study.plan.seconds is not None:
        return duration(study.plan.seconds)
    return f"{study.budget} epochs"


def announce_final(cost: Cost) -> None:
    """What the final training takes, before it begins."""
    about = "" if cost.seconds is None else f", about {duration(cost.seconds)}"
    print(f"final training: {cost}{about}", flush=True)


def show_epoch(row: Row) -> None:
    """How an epoch of the final training went."""
    said = f"epoch {int(row['epoch'])}: loss {row['train_loss']:.4f}, {duration(row['seconds'])}"
    print(f"  {said}", flush=True)


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
    used = study.past is not None and method(study.plan.method).needs_past
    tasks = study.past.tasks if study.past is not None and used else []
    own = sum(t.startswith(PREFIX) for t in tasks)
    past = (
        f"learning from {len(tasks)} past task{'s' * (len(tasks) != 1)}"
        if tasks
        else "without past tasks"
        if study.runs is None
        else "learning from past runs"
    )
    past += f", {own} of them your own studies" if own else ""
    weights = "ImageNet weights" if settings.pretrained else "random weights"
    weights = weights if settings.weights is None else settings.weights
    print(
        f"  {settings.network} ({weights}) at {settings.image_size} px · {study.plan.method} "
        f"· {past}"
    )
    for line in leaning(ready):
        print(f"  {line}")
    for line in ready.told:
        print(f"  {line}")
    if ready.request.final is not False:
        most = cost_of(task, settings, study.max_epoch)
        why = None if ready.request.final else no_room(most, study.plan.budget, None)
        where = f", where it costs at most {SHARE:.0%} of the budget" if why else ""
        print(f"  then a final training of the winner: at most {most}{where}")
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
    pace = study.usual_pace
    mean, doubt = float(np.mean(pace.seconds)), float(np.median(pace.doubt))
    left = max(0, study.budget - study.spent)
    return (
        f"{room}: about {left:,} {plural('epoch', left)} of {duration(mean)} each on average, "
        f"give or take a factor of {math.exp(doubt):.1f}"
    )


def leaning(ready: Prepared) -> list[str]:
    """What the study leans on, and how like it that is."""
    study = ready.study
    if study.runs is not None:
        if ready.leaning and not study.spent:
            return list(ready.leaning)
        tasks = study.runs["task"].nunique()
        return [f"leaning on the {len(study.runs):,} runs of {tasks} tasks it was started with"]
    if study.past is None or not method(study.plan.method).needs_past:
        return []
    settings = ready.objective.settings
    trained = {**asdict(Settings()), **study.past.about.get("settings", {})}
    differ = other_settings(trained, asdict(settings))
    names = few([task.removeprefix(PREFIX) for task in study.past.tasks], ", ", 5)
    like = f"trained otherwise ({differ})" if differ else "trained with this study's settings"
    return [f"leaning on curves of this space on {names}", f"how like: {like}"]


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
    if (line := said_of_stop(study)) is not None:
        print(line)
    print(
        f"\nbest configuration of {len(study.started)} tried in {study.spent} epochs and "
        f"{duration(study.elapsed)}:"
    )
    print(f"  {spelled(tuned.best)} (epoch {tuned.epoch})")
    for line in result_table(ready, tuned):
        print(line)
    judged, models = judged_of(study, ready.task), models_of(ready.folder, study)
    for line in [*verdict(study, judged), *tests_of(ready.folder, models)]:
        print(f"  {line}")
    print(f"\nbest.yaml, best.pt: {tuned.folder}")
    if tuned.final is not None:
        print(f"final.pt:           {tuned.folder}, {trained_on(tuned.final)}")
    print(f"report:             {report}")
    for line in use(ready.folder, models):
        print(f"next:               {line}")
    if tracker:
        for what, where in tracker.directions(study):
            print(f"{what + ':':<19} {where}")


def trained_on(final: Final) -> str:
    """How far the final model was trained, and on what."""
    text = f"trained on {final.cost.images:,} images"
    if final.epochs < final.cost.epochs:
        text += f" for {final.epochs} of {final.cost.epochs} epochs, the time being up"
    return text


def result_table(ready: Prepared, tuned: Tuned) -> list[str]:
    """The metric that was gone by, and accuracy, each with its standard error."""
    rows = [("tuned", tuned)]
    rows += [(BASELINES[kind], other) for kind, other in tuned.compared.items()]
    judged = judged_of(ready.study, ready.task)
    tested = len(ready.task.part("test")[1])
    width = max(len(tuned.metric), *(len(label) for label, _ in rows), len("final model"))
    lines = []
    for metric in dict.fromkeys([tuned.metric, "accuracy"]):
        lines += ["", f"  {metric:<{width}}  {'valid':<15}  {'test':<15}  epochs"]
        for label, one in rows:
            if metric == "accuracy":
                pair = one.valid_accuracy, one.test_accuracy
                errors: tuple[float | None, float | None] = (
                    binomial_error(pair[0], judged.images),
                    binomial_error(pair[1], tested),
                )
            else:
                pair = one.valid_value, one.test_value
                said = Assessment.load(one.folder / TEST_PREDICTIONS)
                errors = judged.error, said.metrics[metric].error if said else None
            valid, test = (with_error(v, e) for v, e in zip(pair, errors, strict=True))
            lines.append(f"  {label:<{width}}  {valid:<15}  {test:<15}  {one.epochs_spent:>6}")
        if tuned.final is not None:
            value = with_error(*tuned.final.test[metric])
            epochs = tuned.final.epochs
            lines.append(f"  {'final model':<{width}}  {'':<15}  {value:<15}  {epochs:>6}")
    return lines


def with_error(value: float, error: float | None) -> str:
    """A value and its standard error, in four decimals."""
    return f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")
