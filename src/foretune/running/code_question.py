"""What a study of somebody's code asks: of a command or a function, its space, metric, past and
method. All that can be refused is refused here, and nothing is written.
"""

import hashlib
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune import shipped
from foretune.errors import BadInput, at_least
from foretune.history.join import PREFIX, join, joinable
from foretune.history.meta_dataset import MetaDataset
from foretune.running import history
from foretune.running.history import BY_RUNS, alike, described, leave_out, lessons, sources_of
from foretune.running.objectives.command import Command, Patience, device_named
from foretune.running.objectives.function import Function, Trains, check_sendable
from foretune.running.opening import check_name
from foretune.running.options import filled, out_of_range
from foretune.running.request import Request
from foretune.running.scripts.options import Script
from foretune.running.scripts.results import source
from foretune.running.scripts.template import OWN, Template
from foretune.running.scripts.trainers import TRAINERS, Trainer, trainer
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST, method, searcher
from foretune.space.catalogue import hyperrec_space, transfer_space
from foretune.space.space import Space
from foretune.space.written import of_file
from foretune.stores.metrics import understood
from foretune.study.notes import Notes
from foretune.study.own_studies import own_studies
from foretune.study.plan import Plan
from foretune.tasks.loading import load_task
from foretune.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

EPOCHS = 10  # of a full training


# without past tasks: where trials can be paused, and where they cannot
DEFAULT_WHOLE = "bohb"


ANCHOR_FROM = 5  # full trainings of budget, to spare one for the space's default


SIGNALS = {"TERM": signal.SIGTERM, "INT": signal.SIGINT}


LOSSES = ("loss", "error", "err", "nll", "rmse", "mse", "mae", "perplexity")


Code = Command | Function


@dataclass(frozen=True)
class Question:
    """A study that can be meant: its space and past, its plan, and what makes the objective of its
    folder. `runs` are past runs of other spaces and settings that a new study learns from.
    `whole`: trials cannot be continued; `lines`: what to say before it begins.
    """

    request: Request
    space: Space
    past: MetaDataset | None
    plan: Plan
    whole: bool
    make: Callable[[Path], Code]
    lines: tuple[str, ...]
    images: Task | None = None
    in_process: bool = False  # trials run in this process, one after another
    runs: "pd.DataFrame | None" = None

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        plan = self.plan
        name = self.request.study or f"{plan.task}-{plan.method}-{plan.seed}"
        return self.request.data / "studies" / name


def command_question(request: Request) -> Question:
    """The study that a request with a command asks for. Writes nothing. Raises `BadInput` before
    anything is run: for an unknown placeholder, a hyperparameter that the command does not take, a
    program that is not there, ...
    """
    script = filled(Script, request.script)
    for wrong in (*out_of_range(request), *out_of_range(script)):
        raise BadInput(wrong)
    known = trainer(script.trainer) if script.trainer is not None else None
    if script.command is None:
        raise BadInput(
            "--command must be given: the line that trains, such as "
            "'python train.py --lr {learning_rate} --out {trial_folder}'"
        )
    refuse_ours(request)
    space = space_of(request.space, known)
    text = known.completed(script.command, space.names) if known else script.command
    read = script.read or (known.read if known else None)
    if read is None:
        raise BadInput(
            "--read must be given: where the script's results are, such as results.csv:val_acc"
        )
    found = source(read)
    epochs = EPOCHS if script.epochs is None else script.epochs
    template = Template(text)
    resume = script.resume if script.resume is not None else known.resume if known else None
    checkpoint = script.checkpoint or (known.checkpoint if known else None)
    continuing = Template(resume, "--resume") if resume else None
    check_template(template, continuing, checkpoint, space, found.in_folder)
    if continuing and not found.says_epochs:
        raise BadInput(
            f"--read {read!r} does not say the epoch, which --resume needs: name it, as in "
            "'stdout:epoch (?P<epoch>[0-9]+).*acc=(?P<value>[0-9.]+)'"
        )
    goal = goal_of(script.goal, known, found.metric)
    where = script_of(template.words)
    images = load_task(request.images, request.data) if request.images else None
    task = script.task or (images.name if images else where.resolve().parent.name or "script")
    check_name(task)
    name = (script.stop_signal or "TERM").upper().removeprefix("SIG")
    if name not in SIGNALS:
        raise BadInput(f"--stop-signal {script.stop_signal!r} must be TERM or INT")
    patience = Patience(
        result=script.timeout,
        sign=Patience.sign if script.silence is None else script.silence,
        grace=Patience.grace if script.grace is None else script.grace,
    )
    device = device_named(str(request.settings.get("device") or "auto"))
    lines = []
    if continuing is None:
        lines.append("without --resume every trial is a whole training: none is stopped early")

    def make(folder: Path) -> Command:
        return Command(
            template,
            found,
            (folder / "trials").absolute(),
            epochs,
            tuple(space.names),
            Path.cwd(),
            resume=continuing,
            checkpoint_files=checkpoint,
            maximize=goal == "maximize",
            seed=request.seed,
            device=device,
            stop_signal=SIGNALS[name],
            patience=patience,
        )

    noted = {"command": text, "read": read, "resume": resume, "checkpoint": checkpoint}
    return question(
        request,
        space,
        make,
        task=task,
        images=images,
        metric=found.metric,
        goal=goal,
        epochs=epochs,
        whole=continuing is None,
        code=where.name,
        noted=noted,
        lines=lines,
        classifier=images is not None or known is not None,
    )


def function_question(
    function: Trains,
    space: Space,
    request: Request,
    *,
    max_epoch: int = EPOCHS,
    metric: str = "value",
    goal: str = "maximize",
    task: str | None = None,
    resume: bool = True,
    in_process: bool = False,
) -> Question:
    """The study that `foretune.tune(function, space)` asks for. Writes nothing. Raises
    `BadInput`.
    """
    at_least(1, max_epoch=max_epoch)
    for wrong in out_of_range(request):
        raise BadInput(wrong)
    if not in_process:
        check_sendable(function)
    refuse_ours(request)
    name = getattr(function, "__qualname__", type(function).__name__).rpartition(".")[2].strip("<>")
    task = task or name
    check_name(task)

    def make(folder: Path) -> Function:
        return Function(
            function,
            (folder / "trials").absolute(),
            metric,
            max_epoch,
            maximize=goal == "maximize",
            seed=request.seed,
            resume=resume,
        )

    found = question(
        request,
        space,
        make,
        task=task,
        images=None,
        metric=metric,
        goal=goal,
        epochs=max_epoch,
        whole=not resume,
        code=name,
        noted={"function": name},
        lines=[],
    )
    return replace(found, in_process=in_process)


def question(
    request: Request,
    space: Space,
    make: Callable[[Path], Code],
    *,
    task: str,
    images: Task | None,
    metric: str,
    goal: str,
    epochs: int,
    whole: bool,
    code: str,
    noted: Mapping[str, Any],
    lines: list[str],
    classifier: bool = False,
) -> Question:
    """A study of somebody's code. `code` is its name, by which its studies are each other's
    history; `noted` what a continued study must be started with again; `classifier`: it is known to
    train an image classifier.
    """
    check_name(request.study)
    mark = f"{code} {task}".encode()
    hash_ = images.hash if images else f"code-{hashlib.sha256(mark).hexdigest()[:24]}"
    plan = Plan(
        task=task,
        metric=metric,
        goal=goal,
        max_epoch=epochs,
        budget=request.epochs(epochs),
        seed=request.seed,
        seconds=request.seconds,
        open=True,
    )
    settings = {"code": code}
    past, line = past_of(request, space, plan, settings, hash_)
    asked = asked_of_runs(request, space, plan, settings, hash_)
    sources = past_runs_of(request, past, asked, classifier)
    if request.without:
        past = leave_out(request.without, past, sources)
        if past is None and not sources:
            line = "no history: --without leaves no past task"
    some = past is not None and bool(past.tasks)
    beside = replace(asked, without=(*asked.without, *(past.tasks if past is not None else ())))
    taught, told = lessons(sources, beside)
    told = told if not some else []
    lines = [*lines, *told, *(described(taught, beside) if taught and not some else [line])]
    fallback = DEFAULT_WHOLE if whole else DEFAULT_WITHOUT_PAST
    name = request.method or (DEFAULT if some or taught is not None else fallback)
    if method(name).needs_past and not some and (taught is None or name not in BY_RUNS):
        raise BadInput(f"method {name!r} needs past tasks, and there are none: {line}")
    if method(name).rank:
        raise BadInput(f"method {name!r} looks at the weights of our own trainer's networks")
    searcher(name, **request.options)  # refuses a wrong option
    # a training of unknown length is not put first where time is the budget
    known = plan.budget is not None and plan.budget >= ANCHOR_FROM * epochs
    anchored = request.default and name != "random" and known
    notes = Notes(
        task_hash=hash_,
        options=request.options,
        settings=settings,
        space=request.space,
        meta=request.meta if some else None,
        past=tuple(past.tasks) if past is not None else (),
        anchors=(0,) if anchored else (),
        extra=dict(noted),
    )
    plan = replace(plan, method=name, notes=notes)
    return Question(
        request,
        space,
        past,
        plan,
        whole,
        make,
        tuple(lines),
        images,
        runs=None if taught is None else taught.table,
    )


def asked_of_runs(
    request: Request, space: Space, plan: Plan, settings: Mapping[str, Any], target: str
) -> history.Question:
    """What the study asks of past runs of any space and settings."""
    return history.Question(
        space, settings, plan.metric, plan.task, target, request.sources, request.without or ()
    )


def past_runs_of(
    request: Request, past: MetaDataset | None, asked: history.Question, classifier: bool
) -> list[history.Source]:
    """The past runs of any space and settings: none where curves of past tasks apply as they are, or
    where the metric's name says nothing. Those that come with foretune are of image classifiers, and
    for such code only.
    """
    if alike(past, ()) or request.method not in (None, *BY_RUNS):
        return []
    if understood(asked.metric).kind is None:
        return []
    table = classifier or request.meta != shipped.HISTORY
    return sources_of(request.data, request.meta, request.own_studies, table)


def refuse_ours(request: Request) -> None:
    """Raise `BadInput` for options that only mean something to our own trainer."""
    wrong = [name for name, value in request.settings.items() if value is not None]
    wrong = [name for name in wrong if name != "device"]
    if wrong:
        flag = wrong[0].replace("_", "-")
        hint = "--epochs" if wrong[0] == "max_epoch" else "the command itself"
        raise BadInput(f"--{flag} is of foretune's own trainer: say it in {hint}")
    if request.continue_from is not None:
        raise BadInput("--continue-from is for studies of images with foretune's own trainer")
    if request.compare or request.recommender:
        flag = "--compare" if request.compare else "--recommender"
        raise BadInput(f"{flag} is for studies of images with foretune's own trainer")


def space_of(named: str, known: Trainer | None) -> Space:
    """The space of a file or a name, or the trainer's own where none is named. Raises
    `BadInput`.
    """
    if Path(named).is_file():
        return of_file(named)
    if named == "transfer" and known is not None:
        return trainer_space(known)
    if named == "transfer":
        return Space(transfer_space())
    if named == "hyperrec":
        return Space(hyperrec_space())
    raise BadInput(
        f"--space {named!r} is no file: give the YAML or ConfigSpace JSON file of the hyperparameters "
        f"in the command, or --trainer {'|'.join(TRAINERS)}, which have one"
    )


def trainer_space(known: Trainer) -> Space:
    """The space of a trainer: ranges on the log scale, and choices."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float

    space = ConfigurationSpace()
    for name, values in known.space.items():
        if isinstance(values, tuple):
            space.add(Float(name, values, log=True))
        else:
            space.add(Categorical(name, values))
    return Space(space)


def check_template(
    template: Template,
    resume: Template | None,
    checkpoint: str | None,
    space: Space,
    in_folder: bool,
) -> None:
    """Raise `BadInput` for a command that the space, the results or the checkpoints do not fit."""
    if taken := [name for name in space.names if name in OWN]:
        raise BadInput(
            f"a hyperparameter cannot be named {taken[0]!r}: {{{taken[0]}}} stands for {OWN[taken[0]]}; "
            f"another name, such as my_{taken[0]}, can"
        )
    own = [name for name in OWN if name != "checkpoint"]
    if "checkpoint" in template.names:
        raise BadInput("{checkpoint} belongs into --resume, which is added from the second step on")
    template.check(space.names, own)
    if resume is not None:
        resume.check(space.names, list(OWN))
        if checkpoint is None:
            raise BadInput(
                "--resume needs --checkpoint: the file that the script writes each epoch"
            )
    if checkpoint is not None and (
        Path(checkpoint).is_absolute() or ".." in Path(checkpoint).parts
    ):
        raise BadInput(f"--checkpoint {checkpoint!r} must be a path inside {{trial_folder}}")
    used = {*template.names, *(resume.names if resume else ())}
    constant = [n for n in space.names if space.parameters[n].kind == "constant"]
    if unused := [n for n in space.names if n not in used and n not in constant]:
        raise BadInput(
            f"the space has {', '.join(unused)}, which the command does not use: every "
            f"configuration would train the same; write {{{unused[0]}}} where its value belongs"
        )
    if in_folder and "trial_folder" not in used:
        raise BadInput(
            "the command does not name {trial_folder}, in which its results are looked for: give "
            "it as the folder that the script writes to"
        )
    program = template.words[0]
    if "{" not in program and shutil.which(program) is None:
        raise BadInput(f"--command: there is no program {program!r} here")


def goal_of(asked: str | None, known: Trainer | None, metric: str) -> str:
    """Whether the metric is to be large or small."""
    if asked is not None:
        if asked not in ("maximize", "minimize"):
            raise BadInput(f"--goal {asked!r} must be maximize or minimize")
        return asked
    words = metric.lower().replace("/", "_").replace("-", "_").replace(".", "_").split("_")
    if any(word in LOSSES for word in words):
        return "minimize"
    return known.goal if known else "maximize"


def script_of(words: list[str]) -> Path:
    """The script of a command: its first argument that is a file here and not the program, else the
    program.
    """
    for word in words[1:]:
        if not word.startswith("-") and Path(word).is_file():
            return Path(word)
    return Path(words[0])


def past_of(
    request: Request, space: Space, plan: Plan, settings: Mapping[str, Any], target: str
) -> tuple[MetaDataset | None, str]:
    """The past that fits the study, and a line on it: the history that comes with foretune where it
    has this very space, metric and length, and the user's studies of the same code.
    """
    if request.meta == "none":
        return None, "no history: --meta none"
    parts: list[MetaDataset] = []
    if shipped.find("meta", request.meta, request.data) is not None:
        table = MetaDataset.load(shipped.need("meta", request.meta, request.data))
        if fits(table, space, plan):
            parts.append(table)
    elif request.meta != shipped.HISTORY:
        raise BadInput(f"--meta: {shipped.missing('meta', request.meta, request.data)}")
    if request.own_studies:
        studies = own_studies(request.data / "studies", settings)
        parts += [
            s for s in studies if fits(s, space, plan) and (not parts or joinable(s, parts[0]))
        ]
    past = join(parts, parts[0].name) if len(parts) > 1 else parts[0] if parts else None
    if past is not None:
        hashes = past.about.get("hashes", {})
        chosen = request.sources or past.tasks
        past = past.select([t for t in chosen if hashes.get(t) != target and t != plan.task])
    elif request.sources is not None:
        raise BadInput("--sources names past tasks, but none has this space and metric")
    if past is None or not past.tasks:
        return None, (
            f"no history yet: no study of {settings['code']} on another task has this space, "
            f"{plan.metric} and {plan.max_epoch} epochs"
        )
    own = sum(task.startswith(PREFIX) for task in past.tasks)
    return past, f"learning from {len(past.tasks)} past tasks, {own} of them your own studies"


def fits(table: MetaDataset, space: Space, plan: Plan) -> bool:
    """Whether a table is of this space, metric, goal and length."""
    return (
        table.space.names == space.names
        and (table.metric, table.goal) == (plan.metric, plan.goal)
        and table.max_epoch == plan.max_epoch
    )
