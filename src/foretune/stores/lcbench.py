"""LCBench (Zimmer et al. 2021): learning curves of funnel-shaped networks on tabular data.

Two layouts are read: the AT2 authors' folder (configs.pkl, profiles.pkl: 100 configurations) and
LCBench's own release (github.com/automl/LCBench, Apache-2.0), one JSON file of 35 datasets x 2,000
configurations:

    {dataset: {config: {"config": ..., "log": {metric: [values]}}}}

7 hyperparameters, epochs 0 to 51: element 0 of a curve is the value before any training.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace, Float, Integer

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space
from foretune.stores.at2 import known_pairs, long_table, read_release

METRIC = "valid_balanced_accuracy"
LOGGED = "Train/val_balanced_accuracy"  # its name in LCBench's own release
NAMES = (
    "batch_size",
    "learning_rate",
    "max_dropout",
    "max_units",
    "momentum",
    "num_layers",
    "weight_decay",
)
INTEGERS = ("batch_size", "max_units", "num_layers")
PAIRS = {  # the AT2 paper's five test tasks and what each learns from
    "adult": [
        "Australian",
        "blood-transfusion-service-center",
        "mfeat-factors",
        "connect-4",
    ],
    "jasmine": ["dionis", "volkert", "higgs", "sylvine"],
    "numerai28.6": ["kc1", "vehicle", "KDDCup09_appetency", "Amazon_employee_access"],
    "phoneme": [
        "nomao",
        "fabert",
        "jungle_chess_2pcs_raw_endgame_complete",
        "credit-g",
    ],
    "shuttle": ["airlines", "covertype", "jannis", "APSFailure"],
}


def space() -> Space:
    """The 7 hyperparameters of LCBench."""
    out = ConfigurationSpace(name="LCBench")
    out.add(
        [
            Integer("batch_size", (16, 512), log=True),
            Float("learning_rate", (1e-4, 0.1), log=True),
            Float("momentum", (0.1, 0.99)),
            Float("weight_decay", (1e-5, 0.1)),
            Integer("num_layers", (1, 5)),
            Integer("max_units", (64, 1024), log=True),
            Float("max_dropout", (0.0, 1.0)),
        ]
    )
    return Space(out)


def config(raw: dict[str, Any]) -> Config:
    """The hyperparameters of a published configuration.

    Constants (optimizer, schedule, shape) are left out.
    """
    return {n: int(raw[n]) if n in INTEGERS else float(raw[n]) for n in NAMES}


def keep_curve(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a log only the validation curve is kept, as float32.

    Otherwise the release's 2 GB would all become Python floats.
    """
    values = dict(pairs)
    return {LOGGED: np.asarray(values[LOGGED], dtype=np.float32)} if LOGGED in values else values


def read_json(
    path: Path,
) -> tuple[dict[int, Config], dict[int, dict[str, dict[int, np.ndarray]]]]:
    """Configurations and curves of LCBench's own release. Raises `BadInput` on another layout."""
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=keep_curve)
        curves = {
            task: {int(i): entry["log"][LOGGED] for i, entry in entries.items()}
            for task, entries in data.items()
        }
        configs: dict[int, Config] = {}
        for task, entries in data.items():
            for i, entry in entries.items():
                if configs.setdefault(int(i), own := config(entry["config"])) != own:
                    raise BadInput(
                        f"{path}: configuration {i} of {task} differs from that of another task"
                    )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{path} is not LCBench's release, {{dataset: {{config: {{config, log: "
            f"{{{LOGGED}: [...]}}}}}}}}: {error}"
        ) from error
    return configs, {0: curves}


def convert(src: Path | str, dest: Path | str) -> MetaDataset:
    """Convert `src` (the AT2 authors' folder or LCBench's JSON) into the folder `dest`.

    Raises `BadInput`.
    """
    src = Path(src)
    files = (
        sorted(src.glob("*.json")) if src.is_dir() and not (src / "profiles.pkl").exists() else []
    )
    if len(files) == 1:
        src = files[0]
    raw, profiles = read_json(src) if src.is_file() else read_release(src)
    origin = "github.com/automl/LCBench (Apache-2.0)"
    if not src.is_file():
        origin = (
            "github.com/xiaoyuxin1002/amortized-auto-tuning, data/LCBench (from "
            "automl/LCBench, Apache-2.0)"
        )
    tasks = sorted({t for curves in profiles.values() for t in curves})
    meta = MetaDataset.build(
        space(),
        {k: config(c) for k, c in sorted(raw.items())},
        long_table(profiles, METRIC, first_epoch=0),
        metric=METRIC,
        goal="maximize",
        name="LCBench",
        source=origin,
        note="epoch 0 is the value before any training",
        modality="tabular classification",
        paper_pairs=known_pairs(PAIRS, tasks),
        tasks=tasks,
    )
    meta.save(dest)
    return meta
