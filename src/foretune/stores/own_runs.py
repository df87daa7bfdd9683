"""foretune's own: a study, a folder of studies, or a meta-dataset (published tables too).

What a study held fixed (network, image size, number of images, ...) stands in its settings; a
configuration of a pool that was never trained is no run. Names of the nested spaces of published
tables (`adam.lr`) become plain ones.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.stores.record import Record, Source

# HyperRec counts Adam's betas from 0
PLAIN_NAMES = {
    "adam.lr": "learning_rate",
    "momentum.lr": "learning_rate",
    "adam.weight_decay": "weight_decay",
    "momentum.weight_decay": "weight_decay",
    "adam.beta0": "beta1",
    "adam.beta1": "beta2",
    "momentum.momentum": "momentum",
    "lr_scheduler": "scheduler",
}
TABLES = ("about.json", "curves.parquet")


def folders(path: Path) -> list[Path]:
    """The meta-datasets at or under `path`: itself, or studies and tables one or two levels down."""
    if all((path / name).is_file() for name in TABLES):
        return [path]
    found = {f.parent for depth in ("*", "*/*") for f in path.glob(f"{depth}/about.json")}
    return sorted(f for f in found if (f / "curves.parquet").is_file())


def read(path: Path) -> Source:
    """Read all trained configurations.

    Raises `BadInput` where there is no study and no meta-dataset, or two that are judged by
    different metrics.
    """
    found = folders(path)
    if not found:
        raise BadInput(f"{path} holds no study and no meta-dataset of foretune")
    source = Source("foretune", path.resolve().name, first=1)
    metrics: dict[str, str] = {}
    for folder in found:
        meta = MetaDataset.load(folder)
        if metrics and meta.metric not in metrics:
            source.leave(f"tables judged by {meta.metric}: import them apart")
            continue
        metrics[meta.metric] = meta.goal
        source.trainer = source.trainer or ("foretune" if "settings" in meta.about else "")
        _add(source, meta, folder)
    source.objective, source.goals = next(iter(metrics)), metrics
    return source


def _add(source: Source, meta: MetaDataset, folder: Path) -> None:
    settings: dict[str, Any] = dict(meta.about.get("settings") or {})
    study = folder / "study.json"
    if study.is_file():
        notes = json.loads(study.read_text(encoding="utf-8")).get("notes") or {}
        settings = {**settings, **(notes.get("settings") or {})}
    settings = {**settings, "epochs": meta.max_epoch, "max_epoch": None}
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    columns = meta.rows.columns
    values, epochs = columns[meta.metric], columns["epoch"]
    order = np.lexsort((epochs, columns["seed"], columns["config_id"], meta.rows.task))
    records: dict[tuple[int, int, int], Record] = {}
    for k in order:
        key = (int(meta.rows.task[k]), int(columns["config_id"][k]), int(columns["seed"][k]))
        record = records.get(key)
        if record is None:
            task, config, seed = meta.rows.tasks[key[0]], configs[key[1]], key[2]
            record = records[key] = Record(f"{meta.name} {task} {key[1]} seed {seed}", task)
            named = {PLAIN_NAMES.get(n, n): v for n, v in config.items()}
            record.params = {**settings, **named, "seed": seed}
            record.planned = float(meta.max_epoch)
            hashes = meta.about.get("hashes")
            record.unique = True
            if isinstance(hashes, dict) and hashes.get(task):  # images of the same name may differ
                record.name = f"{record.name} {str(hashes[task])[:12]}"
        record.add(meta.metric, float(epochs[k]), values[k])
    source.records += records.values()
