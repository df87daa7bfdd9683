"""The part of a meta-dataset without holes, and which tasks may be each other's past."""

import hashlib
from pathlib import Path

import numpy as np

from foretune.errors import BadInput
from foretune.history.meta_dataset import KEYS, MetaDataset


def full_grid(meta: MetaDataset, seed: int = 0) -> MetaDataset:
    """The largest part of `meta` in which every configuration ended on every task.

    Ended means trained to the last epoch, or diverged.

    Tasks are taken in the order of how many configurations they have finished. Raises `BadInput`
    where fewer than two tasks share two.
    """
    finished = np.stack(
        [
            ~np.isnan(meta.curves(t, seed)[:, -1]) | meta.failed(t, seed).any(axis=1)
            for t in meta.tasks
        ]
    )  # (T, n)
    by_count = np.argsort(-finished.sum(axis=1), kind="stable")
    # row k: finished on the first k + 1 tasks
    shared = np.logical_and.accumulate(finished[by_count], axis=0)
    cells = shared.sum(axis=1) * np.arange(1, len(shared) + 1)
    cells[:1] = 0
    best = int(np.argmax(cells))
    rows = np.flatnonzero(shared[best])
    if best < 1 or len(rows) < 2:
        raise BadInput(f"{meta.name} has no two tasks that share two finished configurations yet")
    tasks = [meta.tasks[i] for i in sorted(by_count[: best + 1])]
    ids = [meta.config_ids[i] for i in rows]
    table = meta.table
    table = table[
        table["task"].isin(tasks) & table["config_id"].isin(ids) & (table["seed"] == seed)
    ]
    configs = dict(zip(ids, [meta.configs[i] for i in rows], strict=True))
    about = {**meta.about, "tasks": tasks, "max_epoch": meta.max_epoch}
    return MetaDataset.build(meta.space, configs, table, **about)


def content_hash(meta: MetaDataset) -> str:
    """What a table says, whatever order its rows have, as a hash.

    Curves by the metric, configurations, and which tasks share a source.
    """
    rows = meta.table.sort_values(KEYS)[[*KEYS, meta.metric]].to_csv(index=False)
    sources = {task: meta.about.get("sources", {}).get(task, task) for task in meta.tasks}
    said = f"{rows}{meta.config_ids}{meta.configs}{meta.goal}{meta.max_epoch}{sources}"
    return hashlib.sha256(said.encode()).hexdigest()


LEAVE = ("source", "task")


def past_of(meta: MetaDataset, leave: str = "source") -> dict[str, list[str]]:
    """For each task, the tasks of other sources, or (`leave` = "task") all others.

    Raises `BadInput` for another word.
    """
    if leave not in LEAVE:
        raise BadInput(f"leave={leave!r} must be one of {', '.join(LEAVE)}")
    source = {
        task: meta.about.get("sources", {}).get(task, task) if leave == "source" else task
        for task in meta.tasks
    }
    return {
        task: [other for other in meta.tasks if source[other] != source[task]]
        for task in meta.tasks
    }


def folder_of(reports: Path, leave: str) -> Path:
    """Where the tables of a comparison lie that holds out whole sources, or single tasks."""
    return reports if leave == "source" else reports / "leave_one_task_out"


def held_out_together(meta: MetaDataset, leave: str = "source") -> dict[tuple[str, ...], list[str]]:
    """Held-out tasks (that leave the same past) -> their past.

    Raises `BadInput` where one would have none.
    """
    folds: dict[tuple[str, ...], list[str]] = {}
    for task, past in past_of(meta, leave).items():
        folds.setdefault(tuple(past), []).append(task)
    if () in folds:
        raise BadInput(f"{folds[()][0]} has no past: all tasks are of one source")
    return {tuple(held): list(past) for past, held in folds.items()}
