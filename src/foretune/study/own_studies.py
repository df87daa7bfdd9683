"""What a new study can learn from: the shipped meta-dataset and the user's own studies, as one
meta-dataset.

A study's folder holds the four files of a meta-dataset, so that nothing is copied or converted:
what was trained is history as soon as its first epochs are written. Studies of the same images are
one past task, with the trials of all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.curve_table import CurveTable
from foretune.history.join import (
    PREFIX,
    SHARED_FACTS,
    confined,
    join,
    joinable,
    learning_settings,
)
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Space
from foretune.study.notes import notes_of


@dataclass(frozen=True)
class Own:
    """The user's studies that were trained: `studies`, one meta-dataset for each set of images,
    oldest first; and `left_out`, why another one is not among them, by name.
    """

    studies: tuple[MetaDataset, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def own_studies(folder: Path, settings: Mapping[str, Any] | None = None) -> list[MetaDataset]:
    """The studies under `folder` that have been trained, with the baselines inside them: one
    meta-dataset for each set of images, oldest first.

    With `settings`, only those trained with the same. A study that cannot be read is passed over:
    history must not stop a new study (`foretune doctor` names it).
    """
    return list(found_studies(folder, settings).studies)


def found_studies(folder: Path, settings: Mapping[str, Any] | None = None) -> Own:
    """The same as `own_studies`, and which ones are left out."""
    found: dict[str, list[MetaDataset]] = {}
    left_out: dict[str, str] = {}
    tops = sorted(folder.glob("*/study.json"), key=lambda f: (f.stat().st_mtime, f.parent.name))
    for file in [
        f for top in tops for f in (top, *sorted(top.parent.glob("compare-*/study.json")))
    ]:
        name = file.parent.relative_to(folder).as_posix()
        try:
            study, notes = MetaDataset.load(file.parent), notes_of(file)
        except BadInput:
            if (file.parent / "curves.parquet").exists() and file in tops:
                left_out[name] = "it cannot be read"
            continue
        images, trained = notes.task_hash or study.tasks[0], learning_settings(notes.settings)
        if settings is not None and (differ := other_settings(notes.settings, settings)):
            if file in tops:  # a comparison goes with its study
                left_out[name] = differ
            continue
        shape = (
            images,
            sorted(trained.items()),
            study.space.names,
            *(getattr(study, what) for what in SHARED_FACTS),
        )
        known = found.setdefault(repr(shape), [])
        task = known[0].tasks[0] if known else PREFIX + name
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
    joined = tuple(join(studies, studies[0].name) for studies in found.values())
    return Own(joined, left_out)


def other_settings(trained: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What is otherwise in the settings that curves were `trained` with than in those `wanted`, of
    those that change what a trial learns; empty where nothing is.
    """
    before, now = learning_settings(trained), learning_settings(wanted)
    return ", ".join(
        f"{name} {before.get(name)!r}, now {now.get(name)!r}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )


def with_own_studies(
    past: MetaDataset | None,
    folder: Path,
    settings: Mapping[str, Any],
    space: Space | None = None,
    metric: str | None = None,
) -> tuple[MetaDataset | None, Mapping[str, str]]:
    """`past` and, after it, the user's own studies of the same settings that can stand beside it;
    without `past`, these alone (None: there are none). And the own studies that are left out: why,
    by name. With `space`, only the configurations that lie in it; with `metric`, only studies of
    it.
    """
    own = found_studies(folder, settings)
    parts, left_out = [] if past is None else [past], dict(own.left_out)
    for study in own.studies:
        name = study.tasks[0].removeprefix(PREFIX)
        if metric is not None and study.metric != metric:
            left_out[name] = "another metric"
            continue
        part = study if space is None else confined(study, space)
        if part is None:
            left_out[name] = "another space"
        elif parts and not joinable(part, parts[0]):
            left_out[name] = f"{unlike(part, parts[0])} than the other past tasks"
        else:
            parts.append(part)
    joined = join(parts, parts[0].name) if len(parts) > 1 else parts[0] if parts else None
    return joined, left_out


def unlike(one: MetaDataset, other: MetaDataset) -> str:
    """In what two tables differ that cannot be joined."""
    facts = [fact for fact in SHARED_FACTS if getattr(one, fact) != getattr(other, fact)]
    return f"another {' and '.join(facts) or 'space'}"


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
