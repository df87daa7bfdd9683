"""Meta-datasets of one space, metric and length as one, and when two can stand side by side."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.curve_table import CurveTable
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space, config_key

PREFIX = "studies/"  # of a past task that is one of the user's own studies
SHARED_FACTS = ("metric", "goal", "max_epoch")
MACHINE_SETTINGS = (
    "device",
    "threads",
    "compile",
)  # settings that do not change what a trial learns


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
            [new_id[int(i)] for i in other.rows.columns["config_id"]], dtype=np.int64
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


def learning_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change what a trial learns. One that is left empty says nothing: older runs
    have no word of it.
    """
    return {
        k: v for k, v in settings.items() if k not in MACHINE_SETTINGS and v not in (None, {}, [])
    }


def confined(past: MetaDataset, space: Space) -> MetaDataset | None:
    """The part of a past that lies in `space`: its configurations that are legal there, encoded as
    that space encodes; `past` itself where the spaces are equal, None where fewer than two are.
    """
    if past.space == space:
        return past
    legal: dict[int, Config] = {}
    for config_id, config in zip(past.config_ids, past.configs, strict=True):
        with suppress(BadInput):
            typed = space.typed(config)
            space.check(typed)
            legal[config_id] = typed
    if len(legal) < 2:
        return None
    keep = np.isin(past.rows.columns["config_id"], list(legal))
    rows = CurveTable(
        past.rows.tasks, past.rows.task[keep], {k: v[keep] for k, v in past.rows.columns.items()}
    )
    part = MetaDataset(space, list(legal), list(legal.values()), rows, past.about)
    return part.select([past.tasks[t] for t in np.unique(rows.task)])


def joinable(one: MetaDataset, other: MetaDataset) -> bool:
    """Whether two tables can be joined."""
    return (
        all(getattr(one, what) == getattr(other, what) for what in SHARED_FACTS)
        and one.space.names == other.space.names
    )
