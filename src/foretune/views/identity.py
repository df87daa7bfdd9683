"""By what MLflow's runs of a study are found again, and told from those of a copied folder."""

import json
import re
import uuid
from dataclasses import replace
from pathlib import Path

from foretune.files import write_json
from foretune.views.run_views import STUDY, StudyView

IDENTITY = "mlflow.json"  # of a study, in its folder


def identity(folder: Path | None) -> tuple[str, str | None]:
    """The identity of a study in MLflow, kept in its folder with the folder's place, so that later
    processes find it; and the folder that it is a copy of, if it is one.

    A folder that was moved keeps its inode, one that was restored its path; a copy has neither.
    """
    if folder is None:
        return uuid.uuid4().hex, None
    path, place = folder / IDENTITY, place_of(folder)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = re.search(r'"study": "([0-9a-f]{32})"', text)
    uid = kept[1] if kept else uuid.uuid4().hex
    try:
        before = json.loads(text) if kept else {}
    except ValueError:
        before = {}
    copied = "folder" in before and not any(before.get(k) == v for k, v in place.items())
    if copied:
        uid = uuid.uuid4().hex
    if before != {"study": uid, **place}:
        write_json(path, {"study": uid, **place})
    return uid, before["folder"] if copied else None


def place_of(folder: Path) -> dict[str, str]:
    """Where a folder lies: its path, and its inode with the device."""
    status = folder.stat()
    return {"folder": str(folder.resolve()), "inode": f"{status.st_dev}:{status.st_ino}"}


def renamed(view: StudyView, uid: str) -> StudyView:
    """The view of the same study with another identity."""
    if uid == view.uid:
        return view
    parent = replace(view.parent, tags={**view.parent.tags, STUDY: uid})
    return replace(view, uid=uid, parent=parent)
