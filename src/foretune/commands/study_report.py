"""The report of a study, with what its folder has beside it."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from foretune.commands.cli import check_output
from foretune.errors import BadInput, as_argument
from foretune.files import replace
from foretune.running.tuning import BASELINES, TEST_PREDICTIONS
from foretune.study.study import Study
from foretune.views.report import write_report

if TYPE_CHECKING:
    from foretune.tasks.task import Task
    from foretune.training.assessment import Assessment
    from foretune.views.verdict import Judged

SEARCHED, FINAL = "the search's model", "the final model"
CLASSES, CONFUSION = "classes.csv", "confusion.csv"  # in a study's folder, of the best test model


def write_study_report(folder: Path, out: Path | None) -> Path:
    """Write the report of the study in `folder`, with its baselines, what its models say of the
    test images and the task's thumbnails, if they are there; and the classes and the confusion
    matrix as tables beside it.
    """
    from foretune.tasks.task import Task
    from foretune.views.pictures import worst_mistakes
    from foretune.views.sheet import sheet_png

    check_output(out)
    study = Study.load(folder)
    baselines = {
        BASELINES[k]: Study.load(folder / f"compare-{k}")
        for k in BASELINES
        if (folder / f"compare-{k}" / "study.json").exists()
    }
    models = models_of(folder, study)
    extras: dict[str, object] = {
        "baselines": {name: other for name, other in baselines.items() if other.spent},
        "models": models,
        "tests": tests_of(folder, models),
        "use": use(folder, models),
    }
    if models:
        write_tables(folder, list(models.values())[-1])
    task_file = folder / "task.npz"
    if task_file.exists():
        task = Task.load(task_file)
        extras["thumbnails"] = sheet_png(task)
        extras["judged"] = judged_of(study, task)
        extras["facts"] = {
            "images": f"{len(task.labels)} in {task.num_classes} classes",
            "source": task.source,
            "licence": task.licence,
        }
        if models:
            images, labels = task.part("test")
            shown = list(models.values())[-1]
            if len(labels) == len(shown.labels):
                extras["mistakes"] = worst_mistakes(shown, images)
    return write_report(study, out or folder / "report.html", extras=extras)


def artifacts(folder: Path, report: Path) -> list[Path]:
    """The files of a study that belong to its run in MLflow."""
    names = ("best.yaml", "final.yaml", CLASSES, CONFUSION)
    return [report, *(folder / name for name in names if (folder / name).exists())]


def judged_of(study: Study, task: "Task") -> "Judged":
    """How sure the values of the study's trials are."""
    from foretune.training.recipe import default_config
    from foretune.views.verdict import Judged

    settings = study.plan.notes.settings
    count = int((task.split == 1).sum())
    images = min(int(settings.get("valid_limit") or count), count)
    network = settings.get("network")
    try:
        default = default_config(str(network)) if network else None
    except BadInput:  # a network of a later version
        default = None
    error = None
    metric = study.plan.metric.removeprefix("valid_")
    found = study.folder and models_of(study.folder, study).get(SEARCHED)
    if found and metric in found.metrics:
        # that of the test images, had there been as many as judged the trials
        error = found.metrics[metric].error * math.sqrt(len(found.labels) / max(images, 1))
    return Judged(images, default, error)


def models_of(folder: Path, study: Study) -> "dict[str, Assessment]":
    """What the study's models say of the test images: the search's, then the final one where it is
    of the same winner.
    """
    from foretune.training.assessment import Assessment

    if study.incumbent is None:
        return {}
    config_id, epoch, _ = study.incumbent
    found: dict[str, Assessment | None] = {}
    if study.plan.notes.tested == (config_id, epoch):
        found[SEARCHED] = Assessment.load(folder / TEST_PREDICTIONS)
    said = _final(folder)
    if said.get("config") == study.configs[config_id] and said.get("epochs") == epoch:
        found[FINAL] = Assessment.load(folder / "final-test.npz")
    return {name: one for name, one in found.items() if one is not None}


def _final(folder: Path) -> dict[str, Any]:
    try:
        said = yaml.safe_load((folder / "final.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return said if isinstance(said, dict) else {}


def tests_of(folder: Path, models: "dict[str, Assessment]") -> list[str]:
    """The search's model beside those that it was compared with, on the same test images."""
    from foretune.training.assessment import Assessment
    from foretune.views.verdict import compared

    if (winner := models.get(SEARCHED)) is None:
        return []
    lines = []
    for kind, name in BASELINES.items():
        other = Assessment.load(folder / f"compare-{kind}" / TEST_PREDICTIONS)
        if other is not None and (line := compared(winner, other, f"the {name}")):
            lines.append(line)
    return lines


def use(folder: Path, models: "dict[str, Assessment]") -> list[str]:
    """What to type next."""
    if FINAL in models:
        return [f"foretune predict {as_argument(folder / 'final.pt')} FILES"]
    if SEARCHED in models:
        return [
            f"foretune train {as_argument(folder / 'best.yaml')} IMAGES",
            f"foretune predict {as_argument(folder / 'best.pt')} FILES",
        ]
    return []


def write_tables(folder: Path, found: "Assessment") -> None:
    """Precision, recall, F1 and images of each class, and the confusion matrix, as CSV."""
    with replace(folder / CLASSES) as temporary:
        rows: list[list[Any]] = [["class", "precision", "recall", "f1", "images"]]
        rows += [
            [one.name, f"{one.precision:.6f}", f"{one.recall:.6f}", f"{one.f1:.6f}", one.images]
            for one in found.classes
        ]
        _write(temporary, rows)
    with replace(folder / CONFUSION) as temporary:
        rows = [["class, taken for", *found.class_names]]
        names = zip(found.class_names, found.confusion.tolist(), strict=True)
        _write(temporary, rows + [[name, *counts] for name, counts in names])


def _write(path: Path, rows: list[list[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
