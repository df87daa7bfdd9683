"""autoHyper on real training: `foretune lr`.

    settings, folder = Settings(pretrained=False), Path("data/studies/lr")
    found = learning_rate_search(task, "adam", settings=settings, folder=folder)
    found.rate, found.converged, found.trials

The search is a study like any other (method `autohyper`, one trial per rate, `zero_share` in every
row), so it resumes after a kill, is logged to MLflow with all its Z curves, and its trials feed
reports and tables.

What it can say something about: networks that start from random weights. At random weights all
singular values are noise and Z is 1; ImageNet weights have Z near 0 from the start whatever the
rate (docs/notes/autohyper.md has the figures), so a search with `pretrained` is refused unless
forced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from foretune.errors import BadInput
from foretune.running.objectives.training import Training
from foretune.running.runner import run_study
from foretune.running.workers import InProcess, Workers
from foretune.searchers.autohyper import EPOCHS, RESPONSE, AutoHyper, Decision, Rules, mean_response
from foretune.space.space import Config, Space
from foretune.study.notes import Notes
from foretune.study.study import Plan, Study
from foretune.training.settings import Settings

if TYPE_CHECKING:
    from foretune.tasks.task import Task

METRIC = "valid_accuracy"
# rules that end the walk and do not turn it: a search goes on under others
LIMITS = ("trials", "largest")
# What authors suggest: Adam, AdaGrad, RMSProp from Wilson et al. 2017 as the autoHyper paper has
# them (tables 1 to 4), the others from their own papers
SUGGESTED = {
    "adam": 3e-4,
    "adagrad": 0.01,
    "rmsprop": 3e-4,
    "sgd": 0.1,
    "adabound": 1e-3,
    "adas": 0.03,
    "sls": 1.0,
}


@dataclass(frozen=True)
class Response:
    """What a rate gave: Z (NaN if the trial failed), Z_t and the training loss of every epoch."""

    rate: float
    z: float
    curve: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Found:
    """The outcome of a search. `informative` is False where Z hardly moved with the rate: then the
    rate means nothing.
    """

    optimizer: str
    rate: float
    converged: bool
    informative: bool
    why: str
    trials: tuple[Response, ...]
    epochs: int
    seconds: float

    @property
    def text(self) -> str:
        """One sentence for people."""
        cost = (
            f"{len(self.trials)} trial{'s' * (len(self.trials) != 1)}, {self.epochs} "
            f"epochs, {self.seconds:.0f} s"
        )
        if not self.informative:
            return (
                f"no learning rate for {self.optimizer}: the weights respond alike to all "
                f"rates tried ({cost})"
            )
        return (
            f"learning rate {self.rate:.3g} for {self.optimizer} "
            f"({'' if self.converged else 'not converged: '}{self.why}; {cost})"
        )


def space_of(base: Mapping[str, Any]) -> Space:
    """An open space of the learning rate alone, 1e-9 to 100, with everything else as `base`
    has it.
    """
    from ConfigSpace import ConfigurationSpace, Constant, Float

    space = ConfigurationSpace(name="learning rate")
    rate = float(base.get("learning_rate", 1e-3))
    space.add(Float("learning_rate", (1e-9, 100.0), log=True, default=rate))
    space.add(*(Constant(name, value) for name, value in base.items() if name != "learning_rate"))
    return Space(space)


def open_search(
    task: Task,
    optimizer: str,
    settings: Settings,
    rules: Rules,
    *,
    config: Config | None,
    folder: Path | None,
    seed: int,
    force: bool,
) -> Study:
    """The study of a search, new or continued, under the limits now given. Raises `BadInput` where
    the folder holds another one, or the weights are ImageNet's.
    """
    if settings.pretrained and not force:
        raise BadInput(
            "autoHyper reads the learning rate off random weights becoming ordered; ImageNet "
            "weights are ordered from the start "
            "(Z near 0 at every rate). Set pretrained: false, or tune the rate with foretune tune"
        )
    base = {
        "optimizer": optimizer,
        "scheduler": "constant",
        "augmentation": "none",
        "finetune": "all",
        **(config or {}),
    }
    notes = Notes(task_hash=task.hash, settings=asdict(settings), base=base, options=asdict(rules))
    budget = EPOCHS * rules.trials
    plan = Plan(
        task=task.name,
        metric=METRIC,
        goal="maximize",
        max_epoch=EPOCHS,
        budget=budget,
        method="autohyper",
        seed=seed,
        open=True,
        notes=notes,
    )
    if folder is None or not (folder / "study.json").exists():
        return Study(space_of(base), [], plan, folder=folder)
    study = Study.load(folder)
    # a search may go on elsewhere
    begun = replace(Settings(**study.plan.notes.settings), device=settings.device)
    if begun != settings or identity(study.plan.notes) != identity(notes):
        raise BadInput(
            f"study {folder.name!r} exists and is another search (its images, network, "
            "settings or options differ); give another name with --study"
        )
    extend(study, rules, budget)
    return study


def identity(notes: Notes) -> tuple[Any, ...]:
    """What makes a search the same one; the limits that only say how far it goes do not count."""
    options = {k: v for k, v in notes.options.items() if k not in LIMITS}
    return notes.task_hash, notes.base, options


def extend(study: Study, rules: Rules, budget: int) -> None:
    """Go on under the limits of `rules`, from what was trained. Raises `BadInput` for limits that
    are below it.
    """
    most = max((study.configs[i]["learning_rate"] for i in study.started), default=0.0)
    for name, limit, done, what in (
        ("trials", rules.trials, len(study.started), "rates were trained"),
        ("largest", rules.largest, most, "is the largest rate trained"),
    ):
        if limit < done * (1 - 1e-9):
            name_of = study.folder.name if study.folder else study.plan.task
            raise BadInput(
                f"{name}={limit:g} is below what study {name_of!r} has done: {done:g} {what}; "
                f"give {done:g} or more, or another name with --study"
            )
    if budget != study.budget:
        study.raise_budget(max(budget, study.spent))


def learning_rate_search(
    task: Task,
    optimizer: str = "adam",
    *,
    settings: Settings | None = None,
    rules: Rules | None = None,
    config: Config | None = None,
    folder: Path | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    on_change: Callable[[Study], None] = lambda study: None,
    force: bool = False,
) -> Found:
    """autoHyper's initial learning rate of `optimizer` on `task`.

    `settings` are the trials' (default: random weights); `config` adds hyperparameters that all
    trials share; `folder` keeps the search, which is continued from there under the limits now
    given; `workers` run the trials (default: this process). `on_change` sees the study as it goes.
    Raises `BadInput`.
    """
    rules = rules or Rules()
    settings = replace(settings or Settings(pretrained=False), max_epoch=EPOCHS)
    study = open_search(
        task, optimizer, settings, rules, config=config, folder=folder, seed=seed, force=force
    )
    searcher = AutoHyper(
        finish=False, low=rules.low, high=rules.high, trials=rules.trials, variant=rules.variant
    )
    searcher.rules = rules
    with ExitStack() as temporary:
        if workers is None:
            work = folder or Path(temporary.enter_context(TemporaryDirectory()))
            if not (task_file := work / "task.npz").exists():
                task.save(task_file)
            checkpoints = work / "checkpoints"
            workers = InProcess(
                Training(task_file, settings, checkpoints, seed, keep_best=False, rank=True)
            )
        run_study(study, searcher, workers, on_change=on_change)
    return found_in(study, searcher.decision(study))


def found_in(study: Study, decision: Decision) -> Found:
    """The outcome that a finished (or stopped) search's study holds. Raises `BadInput` where
    nothing was trained.
    """
    if decision.chosen is None:
        raise BadInput(f"the search has not ended: {decision.why}")
    trials = []
    for config_id in study.started:
        rows = study.rows[config_id]
        z = mean_response(rows, EPOCHS, METRIC)
        curve = tuple(float(r[RESPONSE]) for r in rows if RESPONSE in r)
        losses = tuple(float(r["train_loss"]) for r in rows if "train_loss" in r)
        trials.append(
            Response(
                study.configs[config_id]["learning_rate"],
                math.nan if z is None else z,
                curve,
                losses,
            )
        )
    return Found(
        optimizer=study.space.default()["optimizer"],
        rate=decision.chosen,
        converged=decision.converged,
        informative=decision.spread >= 0.1,
        why=decision.why,
        trials=tuple(trials),
        epochs=study.spent,
        seconds=study.elapsed,
    )
