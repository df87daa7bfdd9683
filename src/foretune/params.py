"""`params.yaml` as frozen dataclasses, one per section; an unknown key is an error.

python -m foretune.params demo.task        prints one value, for the Makefile
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from foretune.errors import BadInput
from foretune.space.parameters import coerce
from foretune.training.recipe import Settings


@dataclass(frozen=True)
class Tasks:
    """How embedded tasks are prepared: edge length in pixels, processes."""

    size: int = 64
    workers: int = 2


@dataclass(frozen=True)
class MetaDatasetPlan:
    """The meta-dataset that the collector trains: `tasks` (none: all prepared ones) but for those
    `held_out`.
    """

    folder: str = "src/foretune/shipped/meta/light"
    tasks: tuple[str, ...] = ()
    configurations: int = 108
    seed: int = 0
    workers: int = 2
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluate:
    """Leave-one-task-out replays: methods, budget in full trainings, seeds."""

    methods: tuple[str, ...] = ("random", "portfolio")
    trainings: int = 5
    seeds: int = 10
    workers: int = 2


@dataclass(frozen=True)
class SiamesePlan:
    """Siamese-BHO's four variants: neighbours, full trainings of a run, runs of each held-out task,
    seed of the networks.
    """

    k: int = 3
    evaluations: int = 30
    repetitions: int = 5
    seed: int = 0


@dataclass(frozen=True)
class TaskAwarePlan:
    """Task-aware Hyperband against others: budgets in epochs for eta = 2, and those for eta = 3;
    runs of each task; whose ranking it takes.
    """

    budgets: tuple[int, ...] = (10, 20, 45, 100, 200, 450)
    large_budgets: tuple[int, ...] = (160, 1080)
    repetitions: int = 10
    recommender: str = "hyperstar"


@dataclass(frozen=True)
class RankingsPlan:
    """The ranking table: recommenders, trials of each, and trainings that the trials share (a trial
    has image batches of its own).
    """

    recommenders: tuple[str, ...] = ("random", "task-agnostic")
    trials: int = 10
    trainings: int = 3
    seed: int = 0


@dataclass(frozen=True)
class RecommendersPlan:
    """The recommenders that are fitted on the whole meta-dataset and ship: names, the folder that
    holds one folder each, seed.
    """

    names: tuple[str, ...] = ("hyperstar",)
    folder: str = "src/foretune/shipped/models"
    seed: int = 0


@dataclass(frozen=True)
class ReportPlan:
    """The page of all benchmarks: the MLflow store that its lines are logged to, or `none`."""

    tracking: str = "none"


@dataclass(frozen=True)
class Demo:
    """What `make demo` tunes, and for how many minutes; its comparisons come on top."""

    task: str = ""
    minutes: int = 2


@dataclass(frozen=True)
class Params:
    """All sections; one that the file leaves out has its defaults."""

    tasks: Tasks = field(default_factory=Tasks)
    training: Settings = field(default_factory=Settings)
    meta_dataset: MetaDatasetPlan = field(default_factory=MetaDatasetPlan)
    evaluate: Evaluate = field(default_factory=Evaluate)
    siamese: SiamesePlan = field(default_factory=SiamesePlan)
    task_aware: TaskAwarePlan = field(default_factory=TaskAwarePlan)
    rankings: RankingsPlan = field(default_factory=RankingsPlan)
    recommenders: RecommendersPlan = field(default_factory=RecommendersPlan)
    report: ReportPlan = field(default_factory=ReportPlan)
    demo: Demo = field(default_factory=Demo)

    def __post_init__(self) -> None:
        if self.demo.task and self.demo.task not in self.meta_dataset.held_out:
            raise BadInput(
                f"demo.task is {self.demo.task!r}, but meta_dataset.held_out is "
                f"{list(self.meta_dataset.held_out)}: "
                "the demo must tune a task that the meta-dataset has not seen"
            )
        for name, value in [
            ("tasks.workers", self.tasks.workers),
            ("meta_dataset.configurations", self.meta_dataset.configurations),
            ("meta_dataset.workers", self.meta_dataset.workers),
            ("evaluate.trainings", self.evaluate.trainings),
            ("evaluate.seeds", self.evaluate.seeds),
            ("evaluate.workers", self.evaluate.workers),
            ("siamese.k", self.siamese.k),
            ("siamese.evaluations", self.siamese.evaluations),
            ("siamese.repetitions", self.siamese.repetitions),
            ("task_aware.budgets", min(self.task_aware.budgets, default=0)),
            ("task_aware.large_budgets", min(self.task_aware.large_budgets, default=0)),
            ("task_aware.repetitions", self.task_aware.repetitions),
            ("rankings.trials", self.rankings.trials),
            ("rankings.trainings", self.rankings.trainings),
            ("demo.minutes", self.demo.minutes),
        ]:
            if value < 1:
                raise BadInput(f"{name} is {value}; 1 or more would be right")


def load(path: Path | str = "params.yaml") -> Params:
    """Read a parameter file. Raises `BadInput` for an unknown section or key, or a value of another
    type.
    """
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: there is no such file; run from the repository's root") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: is not YAML: {error}") from error
    return _fill(Params, {} if given is None else given, str(path))


def _fill(kind: Any, given: Any, where: str) -> Any:
    """Make a dataclass of `kind` from a mapping, checking names and types."""
    if not isinstance(given, Mapping):
        raise BadInput(f"{where}: must be a mapping of names to values, but is {given!r}")
    known = [f.name for f in fields(kind)]
    if unknown := [str(name) for name in given if name not in known]:
        raise BadInput(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    types = get_type_hints(kind)
    return kind(
        **{name: _value(types[name], value, f"{where}: {name}") for name, value in given.items()}
    )


def _value(kind: Any, value: Any, where: str) -> Any:
    if hasattr(kind, "__dataclass_fields__"):
        return _fill(kind, value, where)
    if NoneType in get_args(kind):
        if value is None:
            return None
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise BadInput(f"{where} must be a mapping of names to values, but got {value!r}")
        return dict(value)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return tuple(coerce(item, v, f"{where}: each") for v in coerce(tuple, value, where))
    return coerce(kind, value, where)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one parameter, lists separated by commas."""
    parser = argparse.ArgumentParser(prog="python -m foretune.params", description=main.__doc__)
    parser.add_argument("name", help="section.key, such as demo.task")
    parser.add_argument("--file", default="params.yaml")
    given = parser.parse_args(argv)
    try:
        found: Any = load(given.file)
        for part in given.name.split("."):
            if part not in getattr(found, "__dataclass_fields__", {}):
                raise BadInput(f"{given.file} has no parameter {given.name!r}")
            found = getattr(found, part)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(",".join(found) if isinstance(found, tuple) else found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
