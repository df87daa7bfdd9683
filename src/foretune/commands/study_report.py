"""The report of a study, with what its folder has beside it."""

from pathlib import Path

from foretune.commands.cli import check_output
from foretune.running.tuning import BASELINES
from foretune.study.study import Study
from foretune.views.report import write_report


def write_study_report(folder: Path, out: Path | None) -> Path:
    """Write the report of the study in `folder`, with its baselines and the task's thumbnails if
    they are there.
    """
    from foretune.tasks.task import Task
    from foretune.views.sheet import sheet_png

    check_output(out)
    study = Study.load(folder)
    baselines = {
        BASELINES[k]: Study.load(folder / f"compare-{k}")
        for k in BASELINES
        if (folder / f"compare-{k}" / "study.json").exists()
    }
    extras: dict[str, object] = {
        "baselines": {name: other for name, other in baselines.items() if other.spent}
    }
    task_file = folder / "task.npz"
    if task_file.exists():
        task = Task.load(task_file)
        extras["thumbnails"] = sheet_png(task)
        extras["facts"] = {
            "images": f"{len(task.labels)} in {task.num_classes} classes",
            "source": task.source,
            "licence": task.licence,
        }
    return write_report(study, out or folder / "report.html", extras=extras)
