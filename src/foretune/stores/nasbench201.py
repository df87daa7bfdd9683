"""NAS-Bench-201 as NATS-Bench's topology space lays it out: one pickle per architecture.

Source: github.com/D-X-Y/NATS-Bench, folder `NATS-tss-v1_0-3ffb9-simple` with `000000.pickle.pbz2`
and so on (Dong and Yang 2020, Dong et al. 2021; MIT). A file is `{"12": state, "200": state}`, bz2
compressed; a state has `arch_str` and `all_results`:

    {(dataset, seed): {"epochs": E, "eval_acc1es": {"x-valid@0": %, ...}}}

Six categorical hyperparameters, one operation for each edge of the cell. Tasks are CIFAR-10 (its
train half, `cifar10-valid`), CIFAR-100 and ImageNet16-120; the metric is validation accuracy in
percent. An epoch that was not evaluated on validation data has no row. The published seeds (777,
888, 999) become 0, 1, 2.
"""

import bz2
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ConfigSpace import Categorical, ConfigurationSpace

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space
from foretune.stores.plain_pickle import load

METRIC = "valid_accuracy"
OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
EDGES = ["edge_1_0", "edge_2_0", "edge_2_1", "edge_3_0", "edge_3_1", "edge_3_2"]
TASKS = ["cifar10-valid", "cifar100", "ImageNet16-120"]
SEEDS = {777: 0, 888: 1, 999: 2}
RECIPE = "200"  # the recipe of 200 epochs; the other is 12


def space() -> Space:
    """Five operations on each of six edges."""
    out = ConfigurationSpace(name="NAS-Bench-201")
    out.add([Categorical(edge, OPERATIONS) for edge in EDGES])
    return Space(out)


def config(arch: str) -> Config:
    """`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|` as a configuration.

    Raises `BadInput` on another text.
    """
    found = re.findall(r"([a-z0-9_]+)~(\d)", arch)
    sources = [int(s) for _, s in found]
    if sources != [0, 0, 1, 0, 1, 2] or any(op not in OPERATIONS for op, _ in found):
        raise BadInput(f"{arch!r} is not an architecture of NAS-Bench-201")
    return {edge: op for edge, (op, _) in zip(EDGES, found, strict=True)}


def architectures(src: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and state of each architecture file in `src`."""
    for path in sorted(src.glob("[0-9]*.pickle*")):
        raw = path.read_bytes()
        try:
            raw = bz2.decompress(raw) if path.suffix == ".pbz2" else raw
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} is not bz2-compressed: {error}") from error
        content = load(io.BytesIO(raw), str(path))
        if (
            not isinstance(content, dict)
            or RECIPE not in content
            or "all_results" not in content[RECIPE]
        ):
            raise BadInput(f"{path} has no results of the recipe of {RECIPE} epochs")
        yield int(path.name.split(".")[0]), content[RECIPE]


def curve(result: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (from 1) and validation accuracy in percent of one training."""
    found = sorted(
        (int(k.split("@")[1]) + 1, v)
        for k, v in result["eval_acc1es"].items()
        if k.startswith("x-valid@")
    )
    return np.array([e for e, _ in found], dtype=np.int16), np.array(
        [v for _, v in found], dtype=np.float32
    )


def convert(src: Path | str, dest: Path | str) -> MetaDataset:
    """Convert the folder `src` into the meta-dataset folder `dest`. Raises `BadInput`."""
    configs: dict[int, Config] = {}
    parts: list[tuple[int, int, int, np.ndarray, np.ndarray]] = []
    for number, state in architectures(Path(src)):
        configs[number] = config(state["arch_str"])
        for (dataset, seed), result in state["all_results"].items():
            if dataset in TASKS and seed in SEEDS:
                parts.append((TASKS.index(dataset), number, SEEDS[seed], *curve(result)))
    if not parts:
        raise BadInput(
            f"{src} holds no architecture files (000000.pickle.pbz2, ...) with validation results"
        )
    lengths = [len(values) for *_, values in parts]
    names = np.array(TASKS, dtype=object)
    table = pd.DataFrame(
        {
            "task": np.repeat(names[[p[0] for p in parts]], lengths),
            "config_id": np.repeat(np.array([p[1] for p in parts], dtype=np.int32), lengths),
            "seed": np.repeat(np.array([p[2] for p in parts], dtype=np.int16), lengths),
            "epoch": np.concatenate([p[3] for p in parts]),
            METRIC: np.concatenate([p[4] for p in parts]),
        }
    ).astype({"task": "str"})
    meta = MetaDataset.build(
        space(),
        configs,
        table,
        metric=METRIC,
        goal="maximize",
        name="NAS-Bench-201",
        source="github.com/D-X-Y/NATS-Bench, topology search space, recipe of 200 epochs (MIT)",
        modality="image classification",
        tasks=[t for t in TASKS if (table["task"] == t).any()],
    )
    meta.save(dest)
    return meta
