"""Opening a study's folder: a new study, or the one that is there if it asks the same question."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.running.history import keep, kept
from foretune.space.space import Config, Space
from foretune.study.identity import differences
from foretune.study.lock import StudyLock
from foretune.study.notes import notes_of
from foretune.study.plan import Plan
from foretune.study.study import Study, read_header

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME = 200  # bytes of a study's name: a file's may have 255, and the lock's is longer


def open_study(
    space: Space,
    pool: list[Config],
    plan: Plan,
    past: MetaDataset | None,
    folder: Path,
    runs: "pd.DataFrame | None" = None,
) -> Study:
    """A new study, or the one in `folder` if it asks the same question; a raised budget is taken
    over. One that goes on keeps the past runs that it was started with, a new one gets `runs`, and
    keeps a copy. Raises `BadInput` if it asks another, or its runs are gone.
    """
    if not (folder / "study.json").exists():
        if runs is not None:
            plan = replace(plan, notes=replace(plan.notes, runs=keep(runs, folder)))
        return Study(space, pool, plan, past=past, runs=runs, folder=folder)
    refuse_another(folder, (space, space.pool(pool), plan))
    digest = notes_of(folder / "study.json").runs
    with StudyLock(folder):  # before it is read: what another process still writes is not read here
        study = Study.load(folder, past, kept(folder, digest))
        study.hold()
    before, now = study.plan, plan
    if (now.budget, now.seconds) != (before.budget, before.seconds):
        budget = None if now.budget is None else max(now.budget, study.spent)
        study.raise_budget(budget, now.seconds)
    return study


def refuse_another(folder: Path, wanted: tuple[Space, list[Config], Plan]) -> None:
    """Raise `BadInput` where the study in `folder` was started with another question."""
    if differ := differences(read_header(folder), wanted):
        raise BadInput(
            f"study {folder.name!r} exists and was started with {'; '.join(differ)}: give "
            "another name with --study"
        )


def check_name(name: str | None) -> None:
    """Raise `BadInput` for a study's name that is no folder name."""
    if name is not None and (name != Path(name).name or name.startswith(".") or not plain(name)):
        raise BadInput(f"study name {name!r} must be a plain folder name, such as photos-1")


def plain(name: str) -> bool:
    """Whether a file can have this name and a line of text can show it."""
    return name.isprintable() and len(name.encode("utf-8", "replace")) <= LONGEST_NAME
