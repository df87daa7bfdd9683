"""What a new study can learn from: the shipped meta-dataset and the user's own studies, as one
meta-dataset.

A study's folder holds the four files of a meta-dataset, so that nothing is copied or converted:
what was trained is history as soon as its first epochs are written. Studies of the same images are
one past task, with the trials of all of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.curve_table import CurveTable
from foretune.history.join import PREFIX, SHARED_FACTS, join, joinable, learning_settings
from foretune.history.meta_dataset import MetaDataset
from foretune.study.notes import notes_of


def own_studies(folder: Path, settings: Mapping[str, Any] | None = None) -> list[MetaDataset]:
    """The studies under `folder` that have been trained, with the baselines inside them: one
    meta-dataset for each set of images, oldest first.

    With `settings`, only those trained with the same. A study that cannot be read is passed over:
    history must not stop a new study (`foretune doctor` names it).
    """
    found: dict[str, list[MetaDataset]] = {}
    tops = sorted(folder.glob("*/study.json"), key=lambda f: (f.stat().st_mtime, f.parent.name))
    for file in [
        f for top in tops for f in (top, *sorted(top.parent.glob("compare-*/study.json")))
    ]:
        try:
            study, notes = MetaDataset.load(file.parent), notes_of(file)
        except BadInput:
            continue
        images, trained = notes.task_hash or study.tasks[0], learning_settings(notes.settings)
        if settings is not None and trained != learning_settings(settings):
            continue
        shape = (
            images,
            sorted(trained.items()),
            study.space.names,
            *(getattr(study, what) for what in SHARED_FACTS),
        )
        known = found.setdefault(repr(shape), [])
        task = known[0].tasks[0] if known else PREFIX + file.parent.relative_to(folder).as_posix()
        about = {
            **study.about,
            "tasks": [task],
            "hashes": {task: notes.task_hash},
            "sources": {task: task},
        }
        rows = CurveTable((task,), np.zeros(len(study.rows), dtype=int), study.rows.columns)
        part = MetaDataset(
            study.space, study.config_ids, study.configs, rows, {**about, "settings": trained}
        )
        known.append(part)
    return [join(studies, studies[0].name) for studies in found.values()]


def with_own_studies(
    past: MetaDataset | None, folder: Path, settings: Mapping[str, Any], metric: str | None = None
) -> MetaDataset | None:
    """`past` and, after it, the user's own studies of the same settings that can stand beside it;
    without `past`, these alone (None: there are none). With `metric`, only studies of that.
    """
    parts = [] if past is None else [past]
    for study in own_studies(folder, settings):
        if metric is not None and study.metric != metric:
            continue
        if not parts or joinable(study, parts[0]):
            parts.append(study)
    return join(parts, parts[0].name) if len(parts) > 1 else parts[0] if parts else None


def read_history(folder: Path | str) -> MetaDataset:
    """A meta-dataset folder; or a folder of studies, as one: the largest group that can stand side
    by side. Raises `BadInput` for anything else.
    """
    folder = Path(folder)
    if (
        (folder / "about.json").exists()
        or not folder.is_dir()
        or (folder / "curves.parquet").exists()
    ):
        return MetaDataset.load(folder)
    studies = own_studies(folder)
    if not studies:
        if folder.name != "studies":
            return MetaDataset.load(folder)  # says what is missing
        raise BadInput(
            f"{folder} holds no study that was trained; start one with: foretune tune IMAGES"
        )
    groups: dict[str, list[MetaDataset]] = {}
    for study in studies:
        shape = (
            study.about["settings"],
            study.space.names,
            *(getattr(study, what) for what in SHARED_FACTS),
        )
        groups.setdefault(repr(shape), []).append(study)
    largest = max(groups.values(), key=len)
    return join(
        largest,
        f"{folder.name} ({len(largest)} of {len(studies)} tasks: the others have other settings)"
        if len(groups) > 1
        else folder.name,
    )
