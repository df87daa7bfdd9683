"""TaskSet (Metz et al. 2020) as the DyHPO authors ship it: one JSON file per text task.

Each entry is `{hp, train, valid, test}`. Source: github.com/releaunifreiburg/DyHPO, data/taskset
(from google-research/task_set, Apache-2.0). 1,000 configurations of Adam8p, 51 values each; one
"epoch" is 200 training iterations. The configurations are shared by the tasks, and the bounds of
the space are those of the sample. A diverged value is NaN. As in the paper, the learning rate, l1,
l2 and both decays are on the log scale, beta1, beta2 and epsilon are not.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ConfigSpace import ConfigurationSpace, Float

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space

PREFIX = "FixedTextRNNClassification_"
LOG = ("learning_rate", "l1", "l2", "linear_decay", "exponential_decay")
SPLITS = ("valid", "train", "test")


def space(configs: list[Config]) -> Space:
    """The box that the sampled configurations span."""
    out = ConfigurationSpace(name="TaskSet Adam8p")
    for name in configs[0]:
        values = [c[name] for c in configs]
        low, high = min(values), max(values)
        if not low < high:
            raise BadInput(
                f"hyperparameter {name!r} has the single value {low!r}: give more than one "
                "configuration"
            )
        out.add(
            Float(name, (low * 0.9999, high * 1.0001), log=name in LOG)
        )  # room for the rounding of a bound to 13 digits
    return Space(out)


def read_task(path: Path) -> list[dict[str, Any]]:
    """The entries of one task. Raises `BadInput` on another layout."""
    try:
        entries = json.loads(path.read_bytes())
        if not entries or any(not e["hp"] or not e["valid"]["loss"] for e in entries):
            raise BadInput(f"{path} holds no configurations, or one without values")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{path} is not a TaskSet file, a list of {{hp, train, valid, test}}: {error!r}"
        ) from error
    return list(entries)


def task_table(task: str, entries: list[dict[str, Any]]) -> pd.DataFrame:
    """The losses of one task in long form; values that are not finite are NaN."""
    lengths = [len(e["valid"]["loss"]) for e in entries]
    keys = {
        "config_id": np.repeat(np.arange(len(entries), dtype=np.int32), lengths),
        "seed": np.int16(0),
        "epoch": np.concatenate([np.arange(1, n + 1, dtype=np.int16) for n in lengths]),
    }
    columns = {
        f"{s}_loss": np.concatenate([np.asarray(e[s]["loss"], dtype=float) for e in entries])
        for s in SPLITS
        if s in entries[0]
    }
    table = pd.DataFrame({"task": task, **keys, **columns})
    losses = [str(c) for c in table if str(c).endswith("_loss")]
    table[losses] = table[losses].where(np.isfinite(table[losses]))
    return table


def convert(src: Path | str, dest: Path | str) -> MetaDataset:
    """Convert the JSON file or folder of JSON files `src` into the meta-dataset folder `dest`.

    Raises `BadInput`.
    """
    src = Path(src)
    files = sorted(src.glob("*.json")) if src.is_dir() else [src]
    if not files or not files[0].is_file():
        raise BadInput(f"{src} is neither a TaskSet JSON file nor a folder of them")
    configs: list[Config] = []
    tables = []
    for path in files:
        entries = read_task(path)
        own = [{k: float(v) for k, v in e["hp"].items()} for e in entries]
        configs = configs or own
        if own != configs:
            raise BadInput(
                f"{path} holds other configurations than {files[0].name}: import it on its own"
            )
        tables.append(task_table(path.stem.removeprefix(PREFIX), entries))
    table = pd.concat(tables, ignore_index=True)
    losses = {c: "float32" for c in table if str(c).endswith("_loss")}
    meta = MetaDataset.build(
        space(configs),
        dict(enumerate(configs)),
        table.astype(losses),
        metric="valid_loss",
        goal="minimize",
        name="TaskSet (Adam8p, text RNN tasks)",
        source="github.com/releaunifreiburg/DyHPO, data/taskset (from "
        "google-research/task_set, Apache-2.0)",
        note="one epoch is 200 training iterations; the bounds of the space are those of the "
        "sampled configurations",
        modality="text classification",
        tasks=sorted(t["task"].iloc[0] for t in tables),
    )
    meta.save(dest)
    return meta
