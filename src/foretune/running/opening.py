"""Opening a study's folder: a new study, or the one that is there if it asks the same question."""

from pathlib import Path

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space
from foretune.study.identity import differences
from foretune.study.plan import Plan
from foretune.study.study import Study, read_header

LONGEST_NAME = 200  # bytes of a study's name: a file's may have 255, and the lock's is longer


def open_study(
    space: Space, pool: list[Config], plan: Plan, past: MetaDataset | None, folder: Path
) -> Study:
    """A new study, or the one in `folder` if it asks the same question; a raised budget is taken
    over. Raises `BadInput` if it asks another.
    """
    if not (folder / "study.json").exists():
        return Study(space, pool, plan, past=past, folder=folder)
    refuse_another(folder, (space, space.taken(pool, "the pool"), plan))
    study = Study.load(folder, past)
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
