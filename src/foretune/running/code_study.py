"""Studies of code that is not ours: a command (`foretune tune --command`) or a Python function
(`foretune.tune(function, space)`).

    with opened(command_question(request)) as ready:
        run(ready)
        tuned = finish(ready)

They are studies like any other, without images unless some are named: their space is the user's,
their metric what the code reports, and past studies of the same script or function are their
history.
"""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from foretune.errors import BadInput
from foretune.files import check_folder, write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.running.code_question import Code, Question
from foretune.running.objectives.command import Command
from foretune.running.objectives.trial_folder import TrialFolder, forget
from foretune.running.opening import open_study
from foretune.running.runner import needed, run_study
from foretune.running.storage import RESULTS, TABLES
from foretune.running.workers import InProcess, Processes, Workers
from foretune.searchers.anchored import Anchored
from foretune.searchers.base import Searcher
from foretune.searchers.registry import searcher
from foretune.searchers.when_done import note_stop, until_done
from foretune.searchers.whole import Whole
from foretune.space.space import Config, Space
from foretune.study.notes import notes_of
from foretune.study.study import Study, read_header

if TYPE_CHECKING:
    pass

HOPELESS = 5  # trials, from the first on, that fail before any gave a result


@dataclass(frozen=True)
class CodeReady:
    """A study that can run."""

    question: Question
    study: Study
    objective: Code
    folder: Path


@dataclass(frozen=True)
class CodeTuned:
    """What came out: the best configuration, its value in the metric's own unit, the epoch of it,
    the copy of that epoch's checkpoint (None: the code wrote none), and the command that trains it
    once more (None for a function).
    """

    name: str
    folder: Path
    best: Config
    metric: str
    value: float
    epoch: int
    epochs_spent: int
    checkpoint: Path | None = None
    command: str | None = None


# -- what is asked


# -- what is done


@contextmanager
def opened(asked: Question) -> Iterator[CodeReady]:
    """Start the study, or continue the one that is there. Raises `BadInput` where another process
    holds it, or it asks another question.
    """
    folder, past, plan = asked.folder, asked.past, asked.plan
    check_folder(folder, "study", *TABLES, *RESULTS)
    if (folder / "study.json").exists():
        stored = notes_of(folder / "study.json")
        now = plan.notes.extra
        if differ := [k for k in now if as_noted(now[k]) != as_noted(stored.extra.get(k))]:
            name = differ[0]
            raise BadInput(
                f"study {folder.name!r} exists and was started with {name} "
                f"{stored.extra.get(name)!r}, now {now[name]!r}: give another name with --study"
            )
        pool = read_header(folder)[1]
        if past is not None:
            past = past.select([t for t in past.tasks if t in stored.past])
        plan = replace(plan, notes=replace(plan.notes, anchors=stored.anchors))
    else:
        pool = first_pool(asked.space, past)
    study = open_study(asked.space, pool, plan, past, folder, asked.runs)
    try:
        if asked.images is not None and not (folder / "task.npz").exists():
            asked.images.save(folder / "task.npz")
        yield CodeReady(asked, study, asked.make(folder), folder)
    finally:
        study.close()


def as_noted(value: Any) -> Any:
    """A note as it comes back from a file."""
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def first_pool(space: Space, past: MetaDataset | None) -> list[Config]:
    """What a new study knows: the space's default, and what was trained on past tasks, as far as
    its ranges allow it.
    """
    pool = {repr(sorted(space.default().items())): space.default()}
    for config in past.configs if past is not None else ():
        try:
            space.check(typed := space.typed(config))
        except BadInput:
            continue
        pool.setdefault(repr(sorted(typed.items())), typed)
    return list(pool.values())


def searcher_of(ready: CodeReady) -> Searcher:
    """The study's searcher: whole trainings where trials cannot be continued, the anchors first."""
    plan = ready.study.plan
    chosen = searcher(plan.method, **plan.notes.options)
    if ready.question.whole:
        chosen = Whole(chosen)
    if plan.notes.anchors:
        chosen = Anchored(chosen, list(plan.notes.anchors))
    request = ready.question.request
    return until_done(chosen, plan, request.worth if request.stop_when_done else None)


def run(
    ready: CodeReady,
    *,
    workers: Workers | None = None,
    on_change: Callable[[Study], None] = lambda study: None,
) -> None:
    """Train until the budget is spent. Ctrl-C leaves everything as it stands. Raises `BadInput`
    where the first trials all fail: then the command is at fault, not a configuration.
    """
    study, objective, before = ready.study, ready.objective, len(ready.study.failures)
    pattern = objective.checkpoint_files if isinstance(objective, Command) else "checkpoint"
    forgotten: set[int] = set()

    def useless() -> set[int]:
        best = study.incumbent
        return set(study.started) - needed(study) - ({best[0]} if best else set())

    def changed(study: Study) -> None:
        for config_id in useless() - forgotten:
            forget(TrialFolder(objective.folder, config_id), pattern)
            forgotten.add(config_id)
        on_change(study)
        if study.incumbent is None and len(study.failures) - before >= HOPELESS:
            reasons = sorted({reason for _, reason in study.failures.values()})
            raise BadInput(
                f"the first {HOPELESS} trials all failed: {'; '.join(reasons)}; what they printed "
                f"lies in {objective.folder}/trial-*/log.txt"
            )

    if workers is None:
        alone = ready.question.in_process
        count = ready.question.request.workers
        workers = InProcess(objective) if alone else Processes(objective, count)
    chosen = searcher_of(ready)
    run_study(study, chosen, workers, on_change=changed)
    note_stop(study, chosen)
    for config_id in useless():  # once more: a script may write while it is being stopped
        forget(TrialFolder(objective.folder, config_id), pattern)


def finish(ready: CodeReady) -> CodeTuned:
    """Hand the best trial over: `best.yaml`, with the command that trains it once more. Raises
    `BadInput` where no trial has a result.
    """
    study, folder, objective = ready.study, ready.folder, ready.objective
    if (found := study.incumbent) is None:
        reasons = "; ".join(sorted({reason for _, reason in study.failures.values()}))
        raise BadInput(
            f"no trial of study {folder.name!r} has a result: {reasons or 'no epoch was trained'}"
        )
    config_id, epoch, value = found
    config = study.configs[config_id]
    command = None
    if isinstance(objective, Command):
        command = shlex.join(objective.arguments(config, "best", objective.epochs))
    tuned = CodeTuned(
        folder.name,
        folder,
        config,
        study.plan.metric,
        value * study.plan.sign,
        epoch,
        study.spent,
        kept_checkpoint(objective, config_id, epoch),
        command,
    )
    best = {
        "task": study.plan.task,
        "config": config,
        "epoch": epoch,
        "max_epoch": study.max_epoch,
        "metric": tuned.metric,
        "value": tuned.value,
        **({} if command is None else {"command": command}),
        **({} if tuned.checkpoint is None else {"checkpoint": str(tuned.checkpoint)}),
        "study": folder.name,
        "method": study.plan.method,
        "seed": study.seed,
        "epochs_spent": study.spent,
    }
    write_atomic(folder / "best.yaml", yaml.safe_dump(best, sort_keys=False))
    return tuned


def kept_checkpoint(objective: Code, config_id: int, epoch: int) -> Path | None:
    """The copy of a trial's checkpoint after its best epoch; None where it is of another epoch,
    since the script was faster than the copy, or there is none.
    """
    trial = TrialFolder(objective.folder, config_id)
    return trial.copy("best") if trial.state().get("best_epoch") == epoch else None
