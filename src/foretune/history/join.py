"""What a study can learn from: the shipped meta-dataset and the user's studies, joined.

A study's folder holds the four files of a meta-dataset, so that nothing is copied or converted:
what was trained is history as soon as its first epochs are written. Studies of the same images are
one past task, with the trials of all of them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.curve_table import CurveTable
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, config_key

PREFIX = "studies/"  # of a past task that is one of the user's own studies
SHARED_FACTS = ("metric", "goal", "max_epoch")
MACHINE_SETTINGS = ("device", "threads")  # settings that do not change what a trial learns


def join(parts: Sequence[MetaDataset], name: str) -> MetaDataset:
    """Meta-datasets of one space, metric and length as one.

    Configurations are matched by content, tasks by name; of a cell known twice the first counts.

    Ids of the first part are kept. Raises `BadInput` without parts, or where they do not fit
    together.
    """
    if not parts:
        raise BadInput("there is nothing to join: no meta-dataset was given")
    first = parts[0]
    for other in parts[1:]:
        for fact in SHARED_FACTS:
            if getattr(other, fact) != getattr(first, fact):
                raise BadInput(
                    f"{other.name} has {fact} {getattr(other, fact)!r}, but {first.name} has "
                    f"{getattr(first, fact)!r}"
                )
        if other.space.names != first.space.names:
            raise BadInput(
                f"{other.name} tunes {', '.join(other.space.names)}, but {first.name} "
                f"{', '.join(first.space.names)}"
            )
    configs: dict[int, Config] = dict(zip(first.config_ids, first.configs, strict=True))
    ids = {config_key(c): i for i, c in reversed(configs.items())}
    tables: list[CurveTable] = [first.rows]
    for other in parts[1:]:
        new_id: dict[int, int] = {}
        for old, config in zip(other.config_ids, other.configs, strict=True):
            key = config_key(config)
            if key not in ids:
                ids[key] = max(configs, default=-1) + 1
                configs[ids[key]] = config
            new_id[old] = ids[key]
        renamed = np.array(
            [new_id[int(i)] for i in other.rows.columns["config_id"]], dtype=np.int32
        )
        tables.append(
            CurveTable(
                other.rows.tasks, other.rows.task, {**other.rows.columns, "config_id": renamed}
            )
        )
    about = dict(first.about)
    for key in ("hashes", "sources", "licences"):
        about[key] = {k: v for part in reversed(parts) for k, v in part.about.get(key, {}).items()}
    about |= {
        "name": name,
        "max_epoch": first.max_epoch,
        "tasks": list(dict.fromkeys(t for p in parts for t in p.tasks)),
    }
    return MetaDataset(
        first.space, list(configs), list(configs.values()), stack(tables, first.metric), about
    )


def stack(tables: Sequence[CurveTable], metric: str) -> CurveTable:
    """The rows of all tables below each other, with the columns that all have.

    The first row of a (task, configuration, seed, epoch) is kept.
    """
    names = list(dict.fromkeys(t for table in tables for t in table.tasks))
    place = {t: k for k, t in enumerate(names)}
    task = np.concatenate(
        [np.array([place[t] for t in table.tasks], dtype=int)[table.task] for table in tables]
    )
    shared = [c for c in tables[0].columns if all(c in table.columns for table in tables)]
    if metric not in shared:
        raise BadInput(f"not all tables have the metric {metric!r}")
    columns = {
        c: np.concatenate([np.asarray(table.columns[c]) for table in tables]) for c in shared
    }
    keys = np.stack([task, columns["config_id"], columns["seed"], columns["epoch"]], axis=1).astype(
        np.int64
    )
    _, keep = np.unique(keys, axis=0, return_index=True)
    keep.sort()
    return CurveTable(tuple(names), task[keep], {c: v[keep] for c, v in columns.items()})


def own_studies(folder: Path, settings: Mapping[str, Any] | None = None) -> list[MetaDataset]:
    """The trained studies under `folder` and the baselines inside them, oldest first.

    There is one meta-dataset for each set of images.

    With `settings`, only those trained with the same. A study that cannot be read is passed over:
    history must not stop a new study (`foretune doctor` names it).
    """
    by_kind: dict[str, list[MetaDataset]] = {}
    tops = sorted(folder.glob("*/study.json"), key=lambda f: (f.stat().st_mtime, f.parent.name))
    for file in [
        f for top in tops for f in (top, *sorted(top.parent.glob("compare-*/study.json")))
    ]:
        try:
            plan = json.loads(file.read_text())
            study, notes = MetaDataset.load(file.parent), plan["notes"]
            images = str(notes.get("task_hash") or plan["task"])
            trained = learning_settings(notes.get("settings") or {})
        except (BadInput, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if settings is not None and trained != learning_settings(settings):
            continue
        known = by_kind.setdefault(repr((images, *kind_of(study, trained))), [])
        task = known[0].tasks[0] if known else PREFIX + file.parent.relative_to(folder).as_posix()
        about = {
            **study.about,
            "tasks": [task],
            "hashes": {task: notes.get("task_hash")},
            "sources": {task: task},
        }
        rows = CurveTable((task,), np.zeros(len(study.rows), dtype=int), study.rows.columns)
        part = MetaDataset(
            study.space, study.config_ids, study.configs, rows, {**about, "settings": trained}
        )
        known.append(part)
    return [join(studies, studies[0].name) for studies in by_kind.values()]


def kind_of(study: MetaDataset, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """What studies that can be joined agree on, with `settings` those that they were trained by."""
    facts = (getattr(study, fact) for fact in SHARED_FACTS)
    return sorted(settings.items()), study.space.names, *facts


def learning_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change what a trial learns."""
    return {k: v for k, v in settings.items() if k not in MACHINE_SETTINGS}


def joinable(one: MetaDataset, other: MetaDataset) -> bool:
    """Whether two tables can be joined."""
    same = all(getattr(one, fact) == getattr(other, fact) for fact in SHARED_FACTS)
    return same and one.space.names == other.space.names


def with_own_studies(
    past: MetaDataset | None, folder: Path, settings: Mapping[str, Any]
) -> MetaDataset | None:
    """`past` and, after it, the user's own studies of the same settings that can stand beside it.

    Without `past`, these alone (None: there are none).
    """
    parts = [] if past is None else [past]
    for study in own_studies(folder, settings):
        if not parts or joinable(study, parts[0]):
            parts.append(study)
    return join(parts, parts[0].name) if len(parts) > 1 else parts[0] if parts else None


def read_history(folder: Path | str) -> MetaDataset:
    """The meta-dataset of a folder: its own, or that of the studies in it.

    Of studies it is the largest group that can stand side by side. Raises `BadInput` for anything
    else.
    """
    folder = Path(folder)
    is_table = (folder / "about.json").exists() or (folder / "curves.parquet").exists()
    if is_table or not folder.is_dir():
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
        groups.setdefault(repr(kind_of(study, study.about["settings"])), []).append(study)
    largest = max(groups.values(), key=len)
    name = folder.name
    if len(groups) > 1:
        name += f" ({len(largest)} of {len(studies)} tasks: the others have other settings)"
    return join(largest, name)
