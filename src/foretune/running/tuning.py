"""Tune a network on a task from end to end: what `foretune tune` and the tune flow do.

    request = Request(images="photos/", budget=100)
    tuned = tune(request)          # trains, resumes, writes best.yaml, best.pt, report.html
    tuned.best, tuned.test_accuracy

A study lies in `data/studies/NAME`: its journal, the tables of a meta-dataset, the checkpoints that
are still needed, the results.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.history.join import learning_settings, with_own_studies
from foretune.history.meta_dataset import MetaDataset
from foretune.running.objectives.training import Training
from foretune.running.runner import delete_checkpoints, run_study, sweep
from foretune.running.workers import Processes, Workers
from foretune.searchers.anchored import Anchored
from foretune.searchers.base import Searcher
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST, method, searcher
from foretune.space.catalogue import heavy_pool, hyperrec_space, transfer_pool, transfer_space
from foretune.space.space import Config, Space
from foretune.study.study import Plan, Study
from foretune.tasks.loading import load_task
from foretune.tasks.task import Task
from foretune.training.recipe import Settings, default_config

METRIC = "valid_accuracy"
# full trainings of budget: with fewer, the search cannot spare one for the default configuration
ANCHOR_FROM = 5


@dataclass(frozen=True)
class Request:
    """What the user asked for. `None` means: as the meta-dataset has it, or the default.

    `images` is a folder of class folders, a prepared task's name, an .npz file or
    `torchvision:NAME`; `budget` counts epochs in all trials together.
    """

    images: str
    budget: int | None = None
    method: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    workers: int = 2
    study: str | None = None
    seed: int = 0
    seconds: float | None = None
    data: Path = Path("data")
    meta: str = "light"
    sources: tuple[str, ...] | None = None
    own: bool = True  # learn from the own studies in `data` too, where their settings are the same
    # whose ranking the method gets; None: the method's own choice, if it takes one
    recommender: str | None = None
    space: str = "transfer"
    open: bool = False
    # train the default configuration first, if the budget allows: the result is never below it
    anchor: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A request with everything looked up: the study, ready to run, and what runs its steps."""

    request: Request
    task: Task
    study: Study
    objective: Training
    folder: Path


@dataclass(frozen=True)
class Tuned:
    """What came out: the best configuration, its accuracies, and where the files are."""

    name: str
    folder: Path
    best: Config
    valid_accuracy: float
    test_accuracy: float
    epoch: int
    epochs_spent: int


def tune(
    request: Request,
    *,
    workers: Workers | None = None,
    on_change: Callable[[Study], None] = lambda study: None,
) -> Tuned:
    """Run the request to its end, or continue it, and write the results. Raises `BadInput` before
    anything is written if the request is at fault.
    """
    with prepared(request) as ready:
        run(ready, workers=workers, on_change=on_change)
        return finish(ready)


@contextmanager
def prepared(request: Request) -> Iterator[Prepared]:
    """Look everything up, refuse what is at fault, open or continue the study, and hold its
    lock.
    """
    from filelock import FileLock, Timeout

    if request.workers < 1:
        raise BadInput(f"workers={request.workers} must be at least 1")
    past = past_of(request)
    settings = settings_of(request, past)
    if request.own and request.meta != "none" and request.sources is None:
        past = with_own_studies(past, request.data / "studies", asdict(settings))
    space, pool = space_of(request)
    name = request.method or (DEFAULT if past is not None and past.tasks else DEFAULT_WITHOUT_PAST)
    if method(name).needs_past and (past is None or not past.tasks):
        where = f"{request.data / 'meta' / request.meta} has none"
        if request.meta == "none" or request.space == "hyperrec":
            where = f"{'--meta none' if request.meta == 'none' else '--space hyperrec'} gives none"
        raise BadInput(f"method {name!r} needs past tasks, and {where}: take --method hyperband")
    chosen = searcher(name, **request.options)
    del chosen  # made only so that a wrong option is refused now
    plan = Plan(
        task="",
        metric=METRIC,
        goal="maximize",
        max_epoch=settings.max_epoch,
        budget=10 * settings.max_epoch if request.budget is None else request.budget,
        method=name,
        seed=request.seed,
        seconds=request.seconds,
        open=request.open or not pool,
    )
    if method(name).rank and settings.pretrained:
        raise BadInput(
            f"method {name!r} reads the rate off random weights becoming ordered, and "
            "ImageNet's are ordered from the start: add --from-scratch"
        )
    if method(name).rank and not plan.open:
        raise BadInput(f"method {name!r} looks for a learning rate outside any pool: add --open")
    check_name(request.study)
    task = load_task(request.images, request.data)
    from foretune.training.trial import check_trainable  # loads PyTorch

    check_trainable(settings, space)
    if past is not None:
        past = without_target(past, task, request.sources)
    folder = request.data / "studies" / (request.study or f"{task.name}-{name}-{request.seed}")
    if past is not None and (folder / "study.json").exists():  # a study that goes on keeps its past
        past = past.select([t for t in past.tasks if t in past_at_start(folder)])
    facts: dict[str, Any] = {
        "task_hash": task.hash,
        "options": request.options,
        "settings": asdict(settings),
        "space": request.space,
        "meta": request.meta if past is not None else None,
        "past": past.tasks if past is not None else [],
    }
    default = default_config(settings.network)
    if (
        request.anchor
        and name != "random"
        and default in pool
        and plan.budget >= ANCHOR_FROM * plan.max_epoch
    ):
        facts["anchors"] = [pool.index(default)]
    if not (folder / "study.json").exists() and (
        ranking := ranking_of(request, name, task, past, pool)
    ):  # a study that goes on has it
        facts["recommended"] = ranking
    plan = replace(plan, task=task.name, notes=facts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            study = open_study(space, pool, plan, past, folder)
            task_file = folder / "task.npz"
            if not task_file.exists():
                task.save(task_file)
            rank = method(name).rank
            objective = Training(
                task_file, settings, folder / "checkpoints", seed=request.seed, rank=rank
            )
            yield Prepared(request, task, study, objective, folder)
    except Timeout as error:
        raise BadInput(
            f"study {folder.name!r} is being run by another process; wait for it, or give "
            "another name with --study"
        ) from error


def open_study(
    space: Space, pool: list[Config], plan: Plan, past: MetaDataset | None, folder: Path
) -> Study:
    """A new study, or the one in `folder` if it asks the same question; a raised budget is taken
    over. Raises `BadInput` if it asks another.
    """
    if not (folder / "study.json").exists():
        return Study(space, pool, plan, past=past, folder=folder)
    study = Study.load(folder, past)
    before, now = study.plan, plan
    keep = ("task", "metric", "goal", "max_epoch", "method", "seed", "open")
    differ = [
        f"{k} {getattr(before, k)!r}, now {getattr(now, k)!r}"
        for k in keep
        if getattr(before, k) != getattr(now, k)
    ]
    for key in ("task_hash", "options", "settings", "space"):
        old, new = (
            json.loads(json.dumps(p.notes.get(key))) for p in (before, now)
        )  # tuples and lists are the same to JSON
        if key == "settings":
            old, new = learning_settings(old), learning_settings(new)
        if old != new:
            differ.append("other images" if key == "task_hash" else f"{key} {old}, now {new}")
    if differ:
        raise BadInput(
            f"study {folder.name!r} exists and was started with {'; '.join(differ)}: give "
            "another name with --study"
        )
    if (now.budget, now.seconds) != (before.budget, before.seconds):
        study.raise_budget(max(now.budget, study.spent), now.seconds)
    return study


def past_at_start(folder: Path) -> list[str]:
    """The past tasks that a study was started with. Raises `BadInput` for a damaged one."""
    try:
        return list(json.loads((folder / "study.json").read_text())["notes"].get("past", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{folder / 'study.json'} cannot be read: {error}") from error


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
    run_study(ready.study, searcher_of(plan), pool, on_change=changed)
    delete_checkpoints(ready.study, ready.objective)


def searcher_of(plan: Plan) -> Searcher:
    """The plan's searcher, after its anchors if it has any."""
    chosen = searcher(plan.method, **plan.notes["options"])
    return Anchored(chosen, anchors) if (anchors := plan.notes.get("anchors")) else chosen


def finish(ready: Prepared) -> Tuned:
    """Hand the best trial over: `best.yaml`, `best.pt` with `best.json`, the test accuracy
    (measured once and kept).
    """
    from foretune.training.export import export
    from foretune.training.trial import evaluate

    study, folder = ready.study, ready.folder
    if (found := study.incumbent) is None:
        reasons = (
            "; ".join(sorted({reason for _, reason in study.failures.values()}))
            or "no epoch was trained"
        )
        raise BadInput(f"no trial of study {folder.name!r} has a result: {reasons}")
    config_id, epoch, value = found
    checkpoint = ready.objective.checkpoint(config_id, best=True)
    facts = study.plan.notes
    if facts.get("tested") != [config_id, epoch]:
        test = evaluate(ready.task, checkpoint, "test", ready.objective.settings)
        export(checkpoint, folder / "best.pt")
        study.note(tested=[config_id, epoch], test_accuracy=test["accuracy"])
    accuracy = float(study.plan.notes["test_accuracy"])
    best = {
        "task": ready.task.name,
        "network": ready.objective.settings.network,
        "config": study.configs[config_id],
        "epoch": epoch,
        "valid_accuracy": round(value, 6),
        "test_accuracy": round(accuracy, 6),
        "settings": asdict(ready.objective.settings),
        "study": folder.name,
        "method": study.plan.method,
        "epochs_spent": study.spent,
    }
    write_atomic(folder / "best.yaml", yaml.safe_dump(best, sort_keys=False))
    return Tuned(folder.name, folder, study.configs[config_id], value, accuracy, epoch, study.spent)


def check_name(name: str | None) -> None:
    """Raise `BadInput` for a study's name that is no folder name."""
    if name is not None and (name != Path(name).name or name.startswith(".")):
        raise BadInput(f"study name {name!r} must be a plain folder name, such as photos-1")


# -- looking things up
# -----------------------------------------------------------------------------------------------------------------
def past_of(request: Request) -> MetaDataset | None:
    """The meta-dataset that the request names, or None where there is none and the request does not
    insist on one.
    """
    if request.space == "hyperrec" or request.meta == "none":
        if request.sources is not None:
            raise BadInput(
                "--sources names past tasks, but this study has none (--meta none, or "
                "--space hyperrec)"
            )
        return None
    folder = request.data / "meta" / request.meta
    if (
        not folder.exists()
        and (request.meta == "light" or request.space == "heavy")
        and request.sources is None
    ):
        return None
    return MetaDataset.load(folder)


def without_target(past: MetaDataset, task: Task, sources: tuple[str, ...] | None) -> MetaDataset:
    """The past tasks (or those named), without the task itself, by name and by content; own studies
    of other images count, whatever their name.
    """
    hashes = past.about.get("hashes", {})
    if sources is not None and task.name in sources:
        raise BadInput(f"--sources names {task.name!r}, which is the task to tune")
    names = [t for t in (sources or past.tasks) if t != task.name and hashes.get(t) != task.hash]
    return past.select(names)


def ranking_of(
    request: Request, name: str, task: Task, past: MetaDataset | None, pool: list[Config]
) -> dict[str, Any] | None:
    """What a fitted recommender says about the pool, for the plan's notes; None where the method
    takes no ranking, or nothing is fitted.

    A recommender that the request names has to be there; raises `BadInput` where it is not, or
    where its past is not the study's.
    """
    chosen = request.recommender or method(name).recommender
    if chosen is None:
        return None
    if method(name).recommender is None:
        raise BadInput(
            f"method {name!r} takes no ranking; --method recommended --option then={name} "
            f"lets {chosen} give it the first configurations"
        )
    if past is None or not past.tasks or not pool or request.sources is not None:
        if request.recommender is None:
            return None
        raise BadInput(
            f"--recommender {chosen} ranks the meta-dataset's configurations by its past "
            "tasks, which --meta none, --space and --sources take away"
        )
    from foretune.recommenders.recommendation import recommend

    try:
        found = recommend(
            task,
            data=request.data,
            meta=request.meta,
            recommender=chosen,
            seed=request.seed,
            own=request.own,
        )
        return found.in_pool(pool)
    except BadInput:
        # the method has a ranking of its own, and says which one it used
        if request.recommender is None:
            return None
        raise


def settings_of(request: Request, past: MetaDataset | None) -> Settings:
    """The training settings: those of the meta-dataset, so that its curves apply, with what the
    request changes. Raises `BadInput`.
    """
    known = asdict(Settings())
    base = {
        k: v
        for k, v in (past.about.get("settings", {}) if past is not None else {}).items()
        if k in known
    }
    if unknown := [k for k in request.settings if k not in known]:
        raise BadInput(f"unknown setting {unknown[0]!r}; there are {', '.join(known)}")
    return Settings(
        **{**base, "device": "auto", **{k: v for k, v in request.settings.items() if v is not None}}
    )


def space_of(request: Request) -> tuple[Space, list[Config]]:
    """The search space and its pool (empty: the space is open). Raises `BadInput` for a name or
    file that is none.
    """
    match request.space:
        case "transfer":
            return Space(transfer_space()), transfer_pool()
        case "heavy":
            return Space(transfer_space()), heavy_pool()
        case "hyperrec":
            return Space(hyperrec_space()), []
    if Path(request.space).is_file():
        return Space.load(request.space), []
    raise BadInput(
        f"space {request.space!r} is neither transfer, heavy, hyperrec nor a ConfigSpace JSON file"
    )


# -- what tuning is compared with
# --------------------------------------------------------------------------------------------------------
def baseline(ready: Prepared, kind: str) -> Prepared:
    """The same task with the same settings under plain training: `default` trains the network's
    default configuration once, `random` is random search at equal epochs. Its study lies inside the
    tuned one's folder and resumes like any other.
    """
    study = ready.study
    settings = ready.objective.settings
    folder = ready.folder / f"compare-{kind}"
    pool = [default_config(settings.network)] if kind == "default" else list(study.configs)
    budget = settings.max_epoch if kind == "default" else max(study.spent, 1)
    plan = replace(
        study.plan,
        method="random",
        budget=budget,
        seconds=None,
        open=study.open_space and kind != "default",
    )
    notes = {k: v for k, v in plan.notes.items() if k in ("task_hash", "settings", "space")} | {
        "options": {},
        "baseline": kind,
        "past": [],
    }
    other = open_study(study.space, pool, replace(plan, notes=notes), None, folder)
    objective = replace(ready.objective, folder=folder / "checkpoints")
    return replace(ready, study=other, objective=objective, folder=folder)


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
