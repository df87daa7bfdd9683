"""What a study was started with: its header on disk, and what of it must not change."""

import json
from pathlib import Path

from foretune.errors import BadInput
from foretune.space.space import Config, Space
from foretune.study.identity import differences
from foretune.study.plan import Plan


def read_header(folder: Path) -> tuple[Space, list[Config], Plan]:
    """What the study in `folder` was started with: its space, pool and plan. Raises `BadInput` if
    there is none.
    """
    path = folder / "study.json"
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        configs = header.pop("configs")
        plan = Plan.from_json(header)
    except FileNotFoundError as error:
        raise BadInput(f"{folder} holds no study (no study.json)") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is damaged: {type(error).__name__}: {error}; put back the file that the study "
            "was begun with, which nothing else holds"
        ) from error
    space = Space.load(folder / "space.json")
    pool = space.pool(configs, f"the pool of {path}")
    if len(pool) < len(configs):  # its ids would mean others
        raise BadInput(
            f"{path}: its pool holds equal configurations, which older versions told apart; start "
            "another study with the same pool"
        )
    return space, pool, plan


def refuse_another(
    folder: Path,
    stored: tuple[Space, list[Config], Plan],
    wanted: tuple[Space, list[Config], Plan],
) -> None:
    """Raise `BadInput` that names what differs, if the study that `folder` holds asks another
    question than the one given: another space, pool or plan.
    """
    if differ := differences(stored, wanted):
        raise BadInput(f"{folder} holds a study with {'; '.join(differ)}: give another folder")
