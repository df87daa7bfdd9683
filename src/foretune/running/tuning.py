"""Tune a network on a task from end to end: what `foretune tune` and the tune flow do.

    tuned = tune("photos/", budget=100)    # trains, resumes, writes best.yaml and best.pt
    tuned.best, tuned.test_accuracy

`foretune.running.preparation` makes the study ready; here it is run, and what came out is handed over.
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from foretune.errors import BadInput
from foretune.files import write_atomic, write_json
from foretune.running.costs import REPORT, Beginning
from foretune.running.final import Cost, Final, after_search, search_images
from foretune.running.opening import open_study
from foretune.running.options import filled, refuse_unknown
from foretune.running.preparation import Prepared, prepared
from foretune.running.request import Request
from foretune.running.runner import Stopwatch, delete_checkpoints, run_study, sweep
from foretune.running.workers import Processes, Workers, end_where_main_is_imported
from foretune.searchers.anchored import Anchored
from foretune.searchers.base import Searcher
from foretune.searchers.registry import searcher
from foretune.searchers.when_done import note_stop, until_done
from foretune.space.space import Config
from foretune.study.notes import Notes
from foretune.study.outcome import Row
from foretune.study.study import Plan, Study
from foretune.training.metrics import GOALS, PART
from foretune.training.recipe import default_config, recipe
from foretune.training.settings import Settings

TEST_METRICS = "test.json"  # in a study's folder
TEST_PREDICTIONS = "best-test.npz"  # beside it: what the best network says of each test image
BASELINES = {"default": "default configuration", "random": "random search"}
GRACE = 0.03  # share of a time budget that a final training may take beyond it


@dataclass(frozen=True)
class Tuned:
    """What came out: the best configuration, its accuracies, where the files are, and the same of
    what it was compared with (by `BASELINES`). `metric` is what it is best in, with its values on
    the validation and the test part; `final` is the model that was trained on all images but the test
    part's.
    """

    name: str
    folder: Path
    best: Config
    valid_accuracy: float
    test_accuracy: float
    epoch: int
    epochs_spent: int
    compared: Mapping[str, "Tuned"] = field(default_factory=dict)
    metric: str = "accuracy"
    valid_value: float = math.nan
    test_value: float = math.nan
    final: Final | None = None


def tune(
    images: str | Path,
    *,
    budget: int | None = None,
    minutes: float | None = None,
    **options: Any,
) -> Tuned:
    """Find the best hyperparameters for a folder of images, or continue to, and write them.

    `images` is a folder of class folders, a prepared task's name, an .npz file or
    `torchvision:NAME`; `minutes` is the time that all of it may take, `budget` counts epochs in all
    trials together (default: ten full trainings, or what the time has room for).
    `options` are those of `foretune tune` (`foretune.running.request.Request`) and the training
    settings by name (`foretune.training.settings.Settings`):

        foretune.tune("photos/", minutes=30, network="resnet18", image_size=96, seed=1)

    Trials run in processes of their own, which import the script that calls this: call it under
    `if __name__ == "__main__":`. Raises `BadInput`, before anything is written, for what cannot be
    used.
    """
    end_where_main_is_imported()
    return tune_request(request_from(images, budget=budget, minutes=minutes, **options))


def request_from(images: str | Path, **options: Any) -> Request:
    """The request of these options and training settings, by name. Raises `BadInput` with near
    names for one that is neither.
    """
    fields_of = {one.name for one in fields(Request)}
    settings = {one.name for one in fields(Settings)}
    for name in options:
        refuse_unknown(name, sorted(fields_of | settings))
    by_name = {k: v for k, v in options.items() if k in settings}
    asked = {k: v for k, v in options.items() if k in fields_of}
    asked["settings"] = {**(asked.get("settings") or {}), **by_name}
    return filled(Request, {"images": str(images), **asked})


def tune_request(
    request: Request,
    *,
    workers: Workers | None = None,
    on_change: Callable[[Study], None] = lambda study: None,
) -> Tuned:
    """Run the request to its end, or continue it, and write the results. Raises `BadInput` before
    anything is written if the request is at fault.
    """
    with prepared(request) as ready:
        for line in ready.told:
            warnings.warn(line, stacklevel=2)
        run(ready, workers=workers, on_change=on_change)
        tuned = finish(ready)
        final = finalise(ready)
        if isinstance(final, str):
            warnings.warn(final, stacklevel=2)
        else:
            tuned = replace(tuned, final=final)
        compared = {}
        for kind in BASELINES if request.compare else ():
            other = baseline(ready, kind)
            run(other, on_change=on_change)
            compared[kind] = finish(other)
        return replace(tuned, compared=compared)


def run(
    ready: Prepared,
    *,
    workers: Workers | None = None,
    on_change: Callable[[Study], None] = lambda study: None,
) -> None:
    """Train until the budget is spent. Ctrl-C leaves everything as it stands."""

    def changed(study: Study) -> None:
        delete_checkpoints(study, ready.objective)
        on_change(study)

    sweep(ready.objective)
    plan = ready.study.plan
    pool = workers or Processes(ready.objective, ready.request.workers)
    chosen = searcher_of(plan, ready.request)
    run_study(ready.study, chosen, pool, on_change=changed, clock=ready.clock)
    note_stop(ready.study, chosen)
    delete_checkpoints(ready.study, ready.objective)


def searcher_of(plan: Plan, request: Request | None = None) -> Searcher:
    """The plan's searcher, after its anchors if it has any, until it is not worth its cost where the
    request says so.
    """
    chosen = searcher(plan.method, **plan.notes.options)
    if plan.notes.anchors:
        chosen = Anchored(chosen, list(plan.notes.anchors))
    worth = request.worth if request is not None and request.stop_when_done else None
    return until_done(chosen, plan, worth)


def finish(ready: Prepared) -> Tuned:
    """Hand the best trial over: `best.yaml`, `best.pt` with `best.json`, the test accuracy
    (measured once and kept).
    """
    from foretune.training.model_file import write_model
    from foretune.training.trial import assess

    study, folder, began = ready.study, ready.folder, Beginning()
    if (found := study.incumbent) is None:
        reasons = (
            "; ".join(sorted({reason for _, reason in study.failures.values()}))
            or "no epoch was trained"
        )
        limit = study.plan.seconds if study.concluded else None
        more = "" if limit is None else f"; --minutes {limit / 60:g} is too little"
        raise BadInput(f"no trial of study {folder.name!r} has a result: {reasons}{more}")
    config_id, epoch, value = found
    checkpoint = ready.objective.checkpoint(config_id, best=True)
    accuracy = study.plan.notes.test_accuracy
    if accuracy is None or study.plan.notes.tested != (config_id, epoch):
        test = assess(ready.task, checkpoint, "test", ready.objective.settings.device)
        accuracy = test.metrics["accuracy"].value
        write_model(checkpoint, folder / "best.pt", test_accuracy=accuracy)
        test.save(folder / TEST_PREDICTIONS)
        study.note(tested=(config_id, epoch), test_accuracy=accuracy)
        write_json(folder / TEST_METRICS, {k: one.value for k, one in test.metrics.items()})
    row = next(one for one in study.rows[config_id] if one["epoch"] == epoch)
    metric, tested = study.plan.metric.removeprefix(PART), test_metrics(folder)
    asked = recipe(study.configs[config_id], ready.objective.settings)
    best = {
        "task": ready.task.name,
        "network": asked.network,
        "config": study.configs[config_id],
        "epoch": epoch,
        "metric": metric,
        "valid_accuracy": round(row["valid_accuracy"], 6),
        "test_accuracy": round(accuracy, 6),
        "valid": {name: round(row[PART + name], 6) for name in GOALS if PART + name in row},
        "test": {name: round(score, 6) for name, score in tested.items()},
        "settings": asdict(ready.objective.settings),
        "crop": ready.task.crop,
        "seed": ready.objective.seed,
        "seconds_per_image": seconds_per_image(ready, config_id),
        "study": folder.name,
        "method": study.plan.method,
        "epochs_spent": study.spent,
    }
    write_atomic(folder / "best.yaml", yaml.safe_dump(best, sort_keys=False))
    study.clock(ready.clock())
    if study.plan.seconds is not None:  # what is still to come, on a machine as busy as it is now
        study.costs = replace(
            study.costs, fixed=REPORT * began.slowdown, after=study.costs.after / 2
        )
    return Tuned(
        folder.name,
        folder,
        study.configs[config_id],
        row["valid_accuracy"],
        accuracy,
        epoch,
        study.spent,
        metric=metric,
        valid_value=study.plan.sign * value,
        test_value=tested.get(metric, math.nan),
    )


def seconds_per_image(ready: Prepared, config_id: int) -> float | None:
    """What an epoch of a trial took, by its training images: the middle of its epochs; None where
    no epoch says.
    """
    rows = ready.study.rows[config_id]
    took = [float(row["seconds"]) for row in rows if row["epoch"] > 0 and row.get("seconds")]
    images = search_images(ready.task, ready.objective.settings)
    return round(float(np.median(took)) / images, 9) if took else None


def finalise(
    ready: Prepared,
    *,
    on_start: Callable[[Cost], None] = lambda cost: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Final | str:
    """Train the winner on all images but the test part's (`foretune.running.final`), or say in one
    line why not.
    """
    plan, study = ready.study.plan, ready.study
    left = estimate = None
    if plan.seconds is not None:
        study.clock(ready.clock())
        left, estimate = study.seconds_to_end, study.final_seconds or None
    done = after_search(
        ready.folder,
        ready.task,
        wanted=ready.request.final,
        budget=plan.budget,
        left=left,
        grace=GRACE * (plan.seconds or 0.0),
        estimate=estimate,
        on_start=on_start,
        on_epoch=on_epoch,
    )
    if isinstance(done, Final):
        study.note(final_test_accuracy=done.test["accuracy"][0])
    return done


def test_metrics(folder: Path) -> dict[str, float]:
    """The best network's metrics on the test part, as they were measured at the study's end; none
    where the study ended before they were kept.
    """
    path = folder / TEST_METRICS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# -- what tuning is compared with
# --------------------------------------------------------------------------------------------------
def baseline(ready: Prepared, kind: str) -> Prepared:
    """The same task with the same settings under plain training: `default` trains the network's
    default configuration once, `random` is random search with as many epochs, or, where time is the
    budget, for as long as the search took. Its study lies inside the tuned one's folder and resumes
    like any other.
    """
    study = ready.study
    settings = ready.objective.settings
    folder = ready.folder / f"compare-{kind}"
    pool = [default_config(settings.network)] if kind == "default" else list(study.configs)
    budget: int | None = settings.max_epoch if kind == "default" else max(study.spent, 1)
    seconds = None
    if kind == "random" and study.plan.seconds is not None:
        budget, seconds = None, search_seconds(study)
    plan = replace(
        study.plan,
        method="random",
        budget=budget,
        seconds=seconds,
        open=study.open_space and kind != "default",
    )
    before = plan.notes
    notes = Notes(
        task_hash=before.task_hash, settings=before.settings, space=before.space, baseline=kind
    )
    other = open_study(study.space, pool, replace(plan, notes=notes), None, folder)
    other.costs = replace(study.costs, after=0.0, fixed=0.0, final=None)
    objective = replace(ready.objective, folder=folder / "checkpoints")
    clock = Stopwatch(other.elapsed)
    return replace(ready, study=other, objective=objective, folder=folder, clock=clock)


def search_seconds(study: Study) -> float:
    """Seconds of the clock from the first decision of a study to its last epoch."""
    began = min((step.get("elapsed", 0.0) for step in study.steps), default=0.0)
    ended = max((t for t in study.times if math.isfinite(t)), default=began)
    return max(1.0, ended - began)
