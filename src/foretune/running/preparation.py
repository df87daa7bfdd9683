"""From a request to a study that is ready to run.

A request goes through three functions, of which none raises after it wrote: `checked` refuses what
cannot be meant, `looked_up` reads images, past and ranking, `opened` holds the study's lock.

A study lies in `data/studies/NAME`: its journal, the tables of a meta-dataset, the checkpoints that
are still needed, the results.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foretune.errors import BadInput, few
from foretune.files import check_folder
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
from foretune.running.costs import Beginning, costs_of, epochs_in, no_final
from foretune.running.final import cost_of, no_room
from foretune.running.history import (
    Lessons,
    Source,
    alike,
    described,
    leave_out,
)
from foretune.running.method_choice import method_of, method_of_old, ranking_of, refuse_recommender
from foretune.running.objectives.training import Training
from foretune.running.opening import check_name, open_study, refuse_another
from foretune.running.options import out_of_range
from foretune.running.past import (
    history_of,
    lessons_of,
    past_for,
    past_of,
    past_runs_of,
    question_of,
    with_earlier,
)
from foretune.running.request import Request
from foretune.running.runner import Stopwatch
from foretune.running.space_and_settings import limits_told, reading_of, settings_of, space_of
from foretune.running.storage import RESULTS, TABLES
from foretune.searchers.registry import method, searcher
from foretune.searchers.when_done import useless_stop
from foretune.space.space import Config, Space
from foretune.study.lock import StudyLock
from foretune.study.notes import Notes, notes_of
from foretune.study.pace import Costs
from foretune.study.study import Plan, Study, read_header
from foretune.tasks.decoding import Progress
from foretune.tasks.loading import find_source, task_of
from foretune.tasks.split import PARTS
from foretune.tasks.task import Task
from foretune.training.architectures import architecture
from foretune.training.metrics import GOALS, column
from foretune.training.recipe import default_config, recipes_of
from foretune.training.settings import Settings

# full trainings of budget: with fewer, the search cannot spare one for the default configuration
ANCHOR_FROM = 5


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
        refuse_recommender(request.recommender, plan.method)
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
    refuse_another(folder, (found.space, found.space.pool(found.pool), same_images))


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
