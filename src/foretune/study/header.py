"""What a study was started with: its header on disk, and what of it must not change."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.files import write_json
from foretune.space.space import Config, Space
from foretune.study.identity import as_read, differences
from foretune.study.plan import Plan

CHECK = "check"  # of study.json: a checksum of all else in it, and of space.json


def write_header(folder: Path, space: Space, configs: Sequence[Config], plan: Plan) -> None:
    """Write `space.json`, then `study.json`, sealed with a checksum of both."""
    space.save(folder / "space.json")
    header = as_read({**plan.to_json(), "configs": list(configs)})
    write_json(folder / "study.json", header | {CHECK: checksum(folder, header)})


def checksum(folder: Path, header: Mapping[str, Any]) -> str:
    """Of what a header and the space beside it say, however it is spaced. Raises `BadInput` where
    the space cannot be read.
    """
    path = folder / "space.json"
    try:
        space = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    return f"{zlib.crc32(json.dumps([header, space], sort_keys=True).encode()):08x}"


def read_header(folder: Path) -> tuple[Space, list[Config], Plan]:
    """What the study in `folder` was started with: its space, pool and plan. Raises `BadInput` if
    there is none, or if it is not as it was written.
    """
    path = folder / "study.json"
    back = "put back the file that the study was begun with, which nothing else holds"
    try:
        header = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(header, dict):
            raise ValueError("it is no object")
        check = header.pop(CHECK, None)  # older headers have none
        said = dict(header)
        configs = header.pop("configs")
        plan = Plan.from_json(header)
    except FileNotFoundError as error:
        raise BadInput(f"{folder} holds no study (no study.json)") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is damaged: {type(error).__name__}: {error}; {back}") from error
    space = Space.load(folder / "space.json")
    if check is not None and check != checksum(folder, said):
        raise BadInput(
            f"{path}, or space.json beside it, was changed since the study began: its checksum is "
            f"another one. A budget is changed by telling the study another one; {back}"
        )
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
