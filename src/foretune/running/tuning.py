"""Tune a network on a task from end to end: what `foretune tune` and the tune flow do.

    tuned = tune("photos/", budget=100)    # trains, resumes, writes best.yaml and best.pt
    tuned.best, tuned.test_accuracy

A request goes through three functions, of which none raises after it wrote: `checked` refuses what
cannot be meant, `looked_up` reads images, past and ranking, `opened` holds the study's lock.

A study lies in `data/studies/NAME`: its journal, the tables of a meta-dataset, the checkpoints that
are still needed, the results.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from foretune import shipped
from foretune.errors import BadInput, few, plural
from foretune.files import check_folder, write_atomic, write_json
from foretune.history.join import PREFIX, confined, join, joinable, learning_settings
from foretune.history.meta_dataset import MetaDataset
from foretune.running.continuing import (
    NOTE,
    Earlier,
    Kept,
    earlier_of,
    kept_epochs,
    take_over,
    with_kept,
)
from foretune.running.costs import REPORT, Beginning, costs_of, epochs_in, no_final
from foretune.running.final import Cost, Final, after_search, cost_of, no_room, search_images
from foretune.running.history import (
    BY_RUNS,
    Lessons,
    Question,
    Source,
    alike,
    described,
    leave_out,
    lessons,
    sources_of,
)
from foretune.running.objectives.training import Training
from foretune.running.opening import check_name, open_study, refuse_another
from foretune.running.options import filled, out_of_range, refuse_unknown
from foretune.running.request import Request
from foretune.running.runner import Stopwatch, delete_checkpoints, run_study, sweep
from foretune.running.storage import RESULTS, TABLES
from foretune.running.workers import Processes, Workers, end_where_main_is_imported
from foretune.searchers.anchored import Anchored
from foretune.searchers.base import Searcher
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST, method, searcher
from foretune.searchers.when_done import note_stop, until_done, useless_stop
from foretune.space.catalogue import (
    PRESETS,
    heavy_pool,
    hyperrec_space,
    preset,
    transfer_pool,
    transfer_space,
)
from foretune.space.space import Config, Space, config_key
from foretune.space.written import fixed, of_file
from foretune.study.lock import StudyLock
from foretune.study.notes import Notes, RankingNote, notes_of
from foretune.study.outcome import Row
from foretune.study.own_studies import other_settings, with_own_studies
from foretune.study.pace import Costs
from foretune.study.study import Plan, Study, read_header
from foretune.tasks.decoding import Progress
from foretune.tasks.loading import find_source, task_of
from foretune.tasks.reading import Reading
from foretune.tasks.split import PARTS
from foretune.tasks.task import Task
from foretune.training.architectures import architecture
from foretune.training.metrics import GOALS, PART, column
from foretune.training.recipe import default_config, recipe, recipes_of
from foretune.training.settings import Settings

# full trainings of budget: with fewer, the search cannot spare one for the default configuration
ANCHOR_FROM = 5
TEST_METRICS = "test.json"  # in a study's folder
TEST_PREDICTIONS = "best-test.npz"  # beside it: what the best network says of each test image
BASELINES = {"default": "default configuration", "random": "random search"}


@dataclass(frozen=True)
class Checked:
    """A request that can be meant: its method, settings and space, and the past tasks there are
    (None: none). `plan` lacks the task and what is noted of it; `told` is what the user has to
    hear before anything is trained, in lines. `sources` are the past runs of any space and settings,
    where no curves of past tasks apply; `earlier` is the study that this one continues, `kept` its
    trials that are trials of this one too.
    """

    request: Request
    settings: Settings
    space: Space
    pool: list[Config]
    past: MetaDataset | None
    plan: Plan
    told: tuple[str, ...]
    began: Beginning  # a budget of time runs from here
    sources: tuple[Source, ...] = ()
    earlier: Earlier | None = None
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True)
class LookedUp:
    """A checked request with its images: the plan of a new study, and the past that it would have.
    `folder` is the study's, `known` whether it held one when this was looked up: then no ranking
    was asked for, since a study that goes on has its own. `told` as in `Checked`; `lessons` are
    the past runs that a new study would learn from, and `leaning` says which these are and how like.
    """

    checked: Checked
    task: Task
    past: MetaDataset | None
    plan: Plan
    folder: Path
    known: bool
    costs: Costs
    told: tuple[str, ...] = ()
    lessons: Lessons | None = None
    leaning: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A request with everything looked up: the study, ready to run, and what runs its steps. `told`
    as in `Checked`, `leaning` as in `LookedUp`.
    """

    request: Request
    task: Task
    study: Study
    objective: Training
    folder: Path
    clock: Stopwatch
    told: tuple[str, ...] = ()
    leaning: tuple[str, ...] = ()


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


@contextmanager
def prepared(
    request: Request, decoding: Progress | None = None, began: Beginning | None = None
) -> Iterator[Prepared]:
    """Check the request, look everything up, and open or continue the study. `decoding(done,
    total)` is called after each image that is decoded. A budget of time runs from when it `began`
    (default: now).
    """
    with opened(looked_up(checked(request, began or Beginning()), decoding)) as ready:
        yield ready


def checked(request: Request, began: Beginning | None = None) -> Checked:
    """The request, refused where it cannot be meant, before its images are looked at. Writes
    nothing. Raises `BadInput`.
    """
    if wrong := next(out_of_range(request), None):
        raise BadInput(wrong)
    if not request.images:
        raise BadInput("IMAGES must be given, or --command with your own script")
    check_name(request.study)
    check_folder(request.data, "data")
    earlier = earlier_of(request)
    request = request if earlier is None else earlier.inherited(request)
    metric = column(request.metric)
    shown = past_of(request)
    settings = settings_of(request, shown)
    space, pool = space_of(request, settings)
    for network in sorted({one.network for one in recipes_of(space, settings)}):
        architecture(network)  # refuses an unknown one, before anything is loaded that takes time
    past, told, left_out = history_of(request, shown, settings, space)
    kept = [] if earlier is None else earlier.kept(space, settings, metric)
    sources = () if alike(past, pool) else past_runs_of(request)
    if earlier is not None and not alike(past, pool) and (rest := earlier.source(kept)):
        sources = [*sources, rest]
    if request.without is not None:
        past = leave_out(request.without, past, sources)
    taught, lines = lessons_of(sources, request, settings, space, past)
    told += lines
    if taught is None and left_out:
        names = [f"{name} ({why})" for name, why in left_out.items()]
        own = "own study" if len(names) == 1 else "own studies"
        told.append(f"{own} left out: {few(names, ', ')}")
    plan = Plan(
        task="",
        metric=metric,
        goal=GOALS[request.metric],
        max_epoch=settings.max_epoch,
        budget=request.epochs(settings.max_epoch),
        method=method_of(request, past, told, taught),
        seed=request.seed,
        seconds=request.seconds,
        open=request.open or not pool,
    )
    searcher(plan.method, **request.options)  # refuses a wrong option
    if method(plan.method).rank and settings.pretrained:
        raise BadInput(
            f"method {plan.method!r} reads the rate off random weights becoming ordered, and "
            "ImageNet's are ordered from the start: add --from-scratch"
        )
    if method(plan.method).rank and not plan.open:
        raise BadInput(
            f"method {plan.method!r} looks for a learning rate outside any pool: add --open"
        )
    return Checked(
        request,
        settings,
        space,
        pool,
        past,
        plan,
        tuple(told),
        began or Beginning(),
        tuple(sources),
        earlier,
        tuple(kept),
    )


def looked_up(found: Checked, decoding: Progress | None = None) -> LookedUp:
    """The images, the past tasks that are not these, and what a recommender says of them. Writes
    nothing. Raises `BadInput`.
    """
    from foretune.training.trial import check_trainable  # loads PyTorch

    request, plan, pool = found.request, found.plan, found.pool
    how = reading_of(request, found.settings)
    source = find_source(request.images, request.data)
    check_trainable(found.settings, found.space)
    plan, folder, known = _named(request, plan, source.name, found.past)
    check_folder(folder, "study", *TABLES, *RESULTS)
    found, plan, noted = continued(found, plan, folder if known else None)
    pool = found.pool
    default = default_config(found.settings.network)
    # decoding may take long: what can be refused without the pixels is refused now
    if known:
        _refuse_another_question(found, plan, folder)
    if request.recommender is not None:
        _refuse_recommender(request.recommender, plan.method)
    task = task_of(source, how, request.data, kept=folder / "task.npz", progress=decoding)
    for part in PARTS:
        if not len(task.part(part)[1]):
            raise BadInput(f"{task.name}: has no {part} images, and all three parts are needed")
    past, told, sources = found.past, [*found.told], found.sources
    if past is not None:
        past, lines = past_for(past, task, plan.max_epoch, request.sources)
        told += lines
        sources = sources if sources or alike(past, pool) else tuple(past_runs_of(request))
        if found.earlier is not None and not found.kept and alike(past, pool):
            past = with_earlier(past, found.earlier, found.space)
    taught: Lessons | None = None
    leaning: tuple[str, ...] = ()
    if sources:
        new = not known  # a study that goes on has the runs that it was started with
        taught, lines = lessons_of(sources, request, found.settings, found.space, past, task, new)
        told += [line for line in lines if line not in told]
        if taught is not None:
            asked = question_of(request, found.settings, found.space, past, task)
            leaning = tuple(described(taught, asked))
    best = method_of(request, past, told, taught)
    if best != found.plan.method:  # the study's name may be another one now too
        plan = replace(plan, method=best)
        searcher(plan.method, **request.options)
        plan, folder, known = _named(request, plan, source.name, past)
    costs = Costs()
    if plan.seconds is not None:
        final = final_planned(request, plan, found.settings, task)
        costs = costs_of(found.settings, found.space, task, request.workers, final)
        left = plan.seconds - (time.monotonic() - found.began.clock)
        if line := no_final(costs, pool, left):
            told.append(line)
    anchored = (
        request.default
        and plan.method != "random"
        and default in pool
        and room_of(plan, costs, pool) >= ANCHOR_FROM * plan.max_epoch
    )
    notes = Notes(
        task_hash=task.hash,
        options=request.options,
        settings=asdict(found.settings),
        space=request.space,
        meta=request.meta if past is not None else None,
        past=tuple(past.tasks) if past is not None else (),
        anchors=(pool.index(default),) if anchored else (),
        recommended=None if known else ranking_of(request, plan.method, task, past, pool),
        extra=noted,
    )
    plan = replace(plan, task=task.name, notes=notes)
    told += [*limits_told(task, found.settings), *useless_stop(request.stop_when_done, plan)]
    return LookedUp(found, task, past, plan, folder, known, costs, tuple(told), taught, leaning)


def final_planned(request: Request, plan: Plan, settings: Settings, task: Task) -> bool:
    """Whether a final training follows, if time allows: one that is not asked for has to fit into
    a budget of epochs too, where there is one beside that of time.
    """
    if request.final is not None:
        return request.final
    half = cost_of(task, settings, math.ceil(settings.max_epoch / 2))
    return no_room(half, plan.budget, None) is None


def room_of(plan: Plan, costs: Costs, pool: list[Config]) -> float:
    """The epochs that a plan has room for, as far as that can be said beforehand."""
    budget = math.inf if plan.budget is None else plan.budget
    return budget if plan.seconds is None else min(budget, epochs_in(plan.seconds, costs, pool))


def continued(
    found: Checked, plan: Plan, folder: Path | None
) -> tuple[Checked, Plan, Mapping[str, Any]]:
    """The request with the trials that it keeps of an earlier study, in its pool and beyond its
    budget, and what is noted of them: those of the study in `folder`, where it has begun.
    """
    if found.earlier is None:
        return found, plan, {}
    pool, noted = with_kept(found.pool, list(found.kept), found.earlier.name)
    if folder is not None:
        _, pool, before = read_header(folder)
        noted = dict(before.notes.extra)
    tried = len(found.earlier.study.started)
    line = (
        f"continuing from {found.earlier.name}: {len(noted[NOTE]['trials']) if NOTE in noted else 0} "
        f"of its {tried} trials are kept as they are ({kept_epochs(noted)} epochs), the others as runs"
    )
    if plan.budget is not None:
        plan = replace(plan, budget=plan.budget + kept_epochs(noted))
    return replace(found, pool=pool, told=(*found.told, line)), plan, noted


def _named(
    request: Request, plan: Plan, images: str, past: MetaDataset | None
) -> tuple[Plan, Path, bool]:
    """The study's folder, whether it holds a study, and the plan with the method that it has then
    where the request names none.
    """
    folder = request.data / "studies" / (request.study or f"{images}-{plan.method}-{request.seed}")
    known = (folder / "study.json").exists()
    if known and request.method is None:
        plan = replace(plan, method=method_of_old(folder, plan.method, past))
    return plan, folder, known


def _refuse_another_question(found: Checked, plan: Plan, folder: Path) -> None:
    """Raise `BadInput` where the study in `folder` was started with another question, whatever its
    images are.
    """
    before = read_header(folder)[2]
    notes = replace(
        before.notes,
        options=found.request.options,
        settings=asdict(found.settings),
        space=found.request.space,
    )
    same_images = replace(plan, task=before.task, notes=notes)
    refuse_another(folder, (found.space, found.space.taken(found.pool, "the pool"), same_images))


@contextmanager
def opened(found: LookedUp) -> Iterator[Prepared]:
    """Hold the study's lock, and start it, or continue the one that is there: with the past and the
    ranking that it was started with, whoever started it. Raises `BadInput` where another process
    holds it, or it asks another question; nothing was written then.
    """
    folder, request = found.folder, found.checked.request
    with StudyLock(folder, first=True):
        past = found.past
        if (folder / "study.json").exists():
            if past is not None:
                started_with = notes_of(folder / "study.json").past
                past = past.select([t for t in past.tasks if t in started_with])
        elif found.known:
            raise BadInput(f"study {folder.name!r} was deleted meanwhile; start it again")
        runs = None if found.lessons is None else found.lessons.table
        study = open_study(found.checked.space, found.checked.pool, found.plan, past, folder, runs)
        slow = found.checked.began.slowdown
        study.costs = replace(found.costs, fixed=found.costs.fixed * slow)
        task_file = folder / "task.npz"
        if not task_file.exists():
            found.task.save(task_file)
        objective = Training(
            task_file,
            found.checked.settings,
            folder / "checkpoints",
            seed=request.seed,
            metric=study.plan.metric,
            goal=study.plan.goal,
            rank=method(study.plan.method).rank,
        )
        if found.checked.earlier is not None:
            take_over(study, objective, found.checked.earlier)
        try:
            clock = Stopwatch(study.elapsed, found.checked.began.clock)
            yield Prepared(
                request, found.task, study, objective, folder, clock, found.told, found.leaning
            )
        finally:
            study.close()


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
        more = "" if limit is None else f"; {limit / 60:g} minutes are too few"
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


# -- looking things up
# --------------------------------------------------------------------------------------------------
def past_of(request: Request) -> MetaDataset | None:
    """The meta-dataset that the request names, or None where it wants none, or where the one that
    comes with foretune is gone, which `missing_history` says.
    """
    if request.space == "hyperrec" or request.meta == "none":
        if request.sources is not None:
            raise BadInput(
                "--sources names past tasks, but this study has none (--meta none, or "
                "--space hyperrec)"
            )
        return None
    if missing_history(request) and request.sources is None:
        return None
    return MetaDataset.load(shipped.need("meta", request.meta, request.data))


def history_of(
    request: Request, shown: MetaDataset | None, settings: Settings, space: Space
) -> tuple[MetaDataset | None, list[str], Mapping[str, str]]:
    """The past tasks that know `space`, of the meta-dataset `shown` and of the user's own studies
    (None: none does), a line for each part of the former that is left out or was trained otherwise,
    and why own studies are left out, by name.
    Raises `BadInput` for past tasks that the request names and that do not know the space.
    """
    told = [line] if (line := missing_history(request)) else []
    left_out: Mapping[str, str] = {}
    metric = column(request.metric)
    if shown is not None and shown.metric != metric:
        line = (
            f"the curves of {request.meta} are left out: they are of {shown.metric}, which says little of "
            f"{metric}"
        )
        if request.sources is not None:
            raise BadInput(f"--sources names past tasks, but {line}")
        told.append(line)
        shown = None
    past, wanted = shown, asdict(settings)
    if shown is not None:
        past, count = (
            confined(shown, space),
            f"{len(shown.tasks)} past {plural('task', len(shown.tasks))}",
        )
        if past is None:
            line = f"the curves of the {count} of {request.meta} are left out, having tuned another space: {few(shown.space.differences(space), '; ')}"
            if request.sources is not None:
                raise BadInput(f"--sources names past tasks, but {line}")
            told.append(line)
        else:
            if len(past) < len(shown):
                told.append(
                    f"{len(shown) - len(past)} of the {len(shown)} past configurations lie outside "
                    "the space and are left out"
                )
            if differ := other_settings(
                {**asdict(Settings()), **shown.about.get("settings", {})}, wanted
            ):
                told.append(f"past curves were trained otherwise ({differ}): a guide, no more")
    if request.own_studies and request.meta != "none" and request.sources is None:
        folder = request.data / "studies"
        past, left_out = with_own_studies(past, folder, wanted, space, metric)
    return past, told, left_out


def with_earlier(past: MetaDataset | None, earlier: Earlier, space: Space) -> MetaDataset | None:
    """`past` and the study that is continued as one more past task, where it can stand beside it."""
    part = confined(earlier.as_past(), space)
    if past is None or part is None or not joinable(part, past):
        return past
    return join([past, part], past.name)


def past_runs_of(request: Request) -> list[Source]:
    """The past runs of any space and settings, none where the request wants none."""
    if request.space == "hyperrec" or request.method not in (None, *BY_RUNS):
        return []
    return sources_of(request.data, request.meta, request.own_studies)


def question_of(
    request: Request,
    settings: Settings,
    space: Space,
    past: MetaDataset | None,
    task: Task | None = None,
) -> Question:
    """What the study that is asked for asks of past runs, beside the curves of `past`."""
    return Question(
        space,
        learning_settings(asdict(settings)),
        column(request.metric),
        None if task is None else task.name,
        None if task is None else task.hash,
        request.sources,
        (*(request.without or ()), *(() if past is None else past.tasks)),
    )


def lessons_of(
    sources: Sequence[Source],
    request: Request,
    settings: Settings,
    space: Space,
    past: MetaDataset | None,
    task: Task | None = None,
    judged: bool = False,
) -> tuple[Lessons | None, list[str]]:
    """The past runs that the study can learn from beside the curves of `past`; as
    `foretune.running.history.lessons`.
    """
    found, lines = lessons(sources, question_of(request, settings, space, past, task), judged)
    # curves of past tasks in this space say enough for a study to begin
    return found, lines if past is None or found is not None else []


def past_for(
    past: MetaDataset, task: Task, epochs: int, sources: tuple[str, ...] | None
) -> tuple[MetaDataset | None, list[str]]:
    """The past tasks that a study of `task` can learn from: other images, and two values or more in
    the first `epochs` epochs (None: there are none). And a line for each kind that is left out.
    """
    others, told = without_target(past, task, sources), []
    mine = [t.removeprefix(PREFIX) for t in past.tasks if t not in others.tasks]
    if sources is None and (own := [t for t in mine if PREFIX + t in past.tasks]):
        told.append(
            f"own {'study' if len(own) == 1 else 'studies'} of these very images left out: {few(own, ', ')}"
        )
    usable = [t for t in others.tasks if values(others, t, epochs) > 1]
    if not usable:
        told.append(
            f"none of the {len(others.tasks)} past tasks that are left has two values in the first "
            f"{epochs} epochs"
            if others.tasks
            else "no past task is left"
        )
        return None, told
    return others.select(usable), told


def values(past: MetaDataset, task: str, epochs: int) -> int:
    """How many finite values a past task has in the first `epochs` epochs."""
    seeds = past.seeds(task)
    return int(np.isfinite(past.curves(task, seeds[0])[:, :epochs]).sum()) if seeds else 0


def limits_told(task: Task, settings: Settings) -> list[str]:
    """A line for each limit that leaves classes without an image."""
    from foretune.training.activations import classes_left_out  # loads PyTorch

    lines = []
    for part, limit, doing in (
        ("train", settings.train_limit, "training"),
        ("valid", settings.valid_limit, "validation"),
    ):
        labels = task.part(part)[1]
        if lost := classes_left_out(labels, limit):
            lines.append(
                f"{lost} of {task.num_classes} classes have no {doing} image at --{part}-limit "
                f"{limit}; --{part}-limit 0 takes all {len(labels)}"
            )
    return lines


def reading_of(request: Request, settings: Settings) -> Reading:
    """How the request's images are read: at the size that the network sees. Raises `BadInput`."""
    return Reading(
        settings.image_size,
        request.crop,
        request.skip_bad,
        request.memory,
        processes=request.workers + 1,
    )


def missing_history(request: Request) -> str | None:
    """What to say before a study that starts without the history that comes with foretune, though
    nobody asked for that; None where the history is there, or not wanted.
    """
    if request.space == "hyperrec" or request.meta != shipped.HISTORY:
        return None
    if shipped.find("meta", request.meta, request.data) is not None:
        return None
    return f"no history: {shipped.missing('meta', request.meta, request.data)}"


def without_target(past: MetaDataset, task: Task, sources: tuple[str, ...] | None) -> MetaDataset:
    """The past tasks (or those named), without the task itself, by name and by content; own studies
    of other images count, whatever their name.
    """
    hashes = past.about.get("hashes", {})
    if sources is not None and task.name in sources:
        raise BadInput(f"--sources names {task.name!r}, which is the task to tune")
    names = [t for t in (sources or past.tasks) if t != task.name and hashes.get(t) != task.hash]
    return past.select(names)


def _refuse_recommender(chosen: str, name: str) -> None:
    """Raise `BadInput` for a recommender that there is not, or that method `name` has no use for."""
    from foretune.recommenders.registry import offered

    if method(name).recommender is None:
        raise BadInput(
            f"method {name!r} takes no ranking; --method recommended --option then={name} "
            f"lets {chosen} give it the first configurations"
        )
    offered(chosen)


def ranking_of(
    request: Request, name: str, task: Task, past: MetaDataset | None, pool: list[Config]
) -> RankingNote | None:
    """What a fitted recommender says about the pool, for the plan's notes; None where the method
    takes no ranking, or nothing is fitted.

    A recommender that the request names has to be there; raises `BadInput` where it is not, or
    where its past is not the study's.
    """
    chosen = request.recommender or method(name).recommender
    if chosen is None:
        return None
    if past is None or not past.tasks or not pool or request.sources or request.without:
        if request.recommender is None:
            return None
        raise BadInput(
            f"--recommender {chosen} ranks the meta-dataset's configurations by its past "
            "tasks, which --meta none, --space, --sources and --without take away"
        )
    from foretune.recommenders.recommendation import recommend

    try:
        found = recommend(
            task,
            data=request.data,
            meta=request.meta,
            recommender=chosen,
            seed=request.seed,
            own=request.own_studies,
        )
        return found.in_pool(pool)
    except BadInput:
        # the method has a ranking of its own, and says which one it used
        if request.recommender is None:
            return None
        raise


def method_of(
    request: Request,
    past: MetaDataset | None,
    told: Sequence[str] = (),
    taught: Lessons | None = None,
) -> str:
    """The method that the request names, or the best there is for what is at hand. Raises `BadInput`
    for one that needs past tasks where there are none, and no past runs that it can take in their
    place; `told` may say why.
    """
    some = past is not None and bool(past.tasks)
    name = request.method or (DEFAULT if some or taught is not None else DEFAULT_WITHOUT_PAST)
    if method(name).needs_past and not some and (taught is None or name not in BY_RUNS):
        where = "; ".join(told) or f"{request.meta} has none"
        if request.meta == "none" or request.space == "hyperrec":
            where = f"{'--meta none' if request.meta == 'none' else '--space hyperrec'} gives none"
        raise BadInput(f"method {name!r} needs past tasks, and {where}: take --method hyperband")
    return name


def method_of_old(folder: Path, now: str, past: MetaDataset | None) -> str:
    """The method of a study that goes on where none is named: its own, whatever would be best by
    `now`, which other studies may have changed meanwhile.
    """
    plan = read_header(folder)[2]
    own = plan.method
    some = (past is not None and bool(past.tasks)) or plan.notes.runs is not None
    return own if some or not method(own).needs_past else now


def settings_of(request: Request, past: MetaDataset | None) -> Settings:
    """The training settings: those of the meta-dataset, so that its curves apply, with what the
    request changes. Raises `BadInput`.
    """
    known = asdict(Settings())
    for name in request.settings:
        refuse_unknown(name, known, "setting")
    noted = past.about.get("settings", {}) if past is not None else {}
    base = {k: v for k, v in noted.items() if k in known}
    asked = {k: v for k, v in request.settings.items() if v is not None}
    return filled(Settings, {**base, "device": "auto", **asked})


def space_of(request: Request, settings: Settings) -> tuple[Space, list[Config]]:
    """The search space and its pool (empty: the space is open), with what the settings fix. Raises
    `BadInput` for a name or file that is none.
    """
    space, pool = named_space(request.space)
    if not settings.fix:
        return space, pool
    space = fixed(space, settings.fix)
    values = {name: p.default for name, p in space.parameters.items() if name in settings.fix}
    changed = [space.completed({**config, **values}, {}) for config in pool]
    return space, list({config_key(config): config for config in changed}.values())


def named_space(name: str) -> tuple[Space, list[Config]]:
    """The space and the pool of a name or a file. Raises `BadInput` for one that is none."""
    match name:
        case "transfer":
            return Space(transfer_space()), transfer_pool()
        case "heavy":
            return Space(transfer_space()), heavy_pool()
        case "hyperrec":
            return Space(hyperrec_space()), []
    if name in PRESETS:
        return preset(name), []
    if Path(name).is_file():
        return of_file(name), []
    raise BadInput(
        f"space {name!r} is neither transfer, {', '.join(PRESETS)}, heavy, hyperrec nor a YAML or "
        "ConfigSpace JSON file"
    )


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


def find_study(name: str, data: Path) -> Path:
    """The folder of a study by name or path. Raises `BadInput` that lists the studies there are."""
    for folder in (data / "studies" / name, Path(name)):
        if (folder / "study.json").is_file():
            return folder
    known = ", ".join(f.name for f in all_studies(data)) or "none yet"
    raise BadInput(f"there is no study {name!r} in {data / 'studies'}; there are: {known}")


def all_studies(data: Path) -> list[Path]:
    """Folders of all studies, oldest first."""
    found = (data / "studies").glob("*/study.json")
    return [f.parent for f in sorted(found, key=lambda f: f.stat().st_mtime)]
