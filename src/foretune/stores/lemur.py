"""LEMUR (`nn-dataset`, MIT): trainings of published CNNs on image datasets, inside a wheel.

Source: github.com/ABrain-One/nn-dataset, release 2.1.2 (`pip download --no-deps nn-dataset==2.1.2`;
later releases no longer carry the trials). The wheel is opened as a zip and none of its code is
run. `ab/nn/stat/train/img-classification_DATASET_acc_MODEL/EPOCH.json` lists the trials that
reached EPOCH: `{uid, accuracy, lr, batch, momentum, transform, ...}`.

Read are the hand-written models; the thousands of generated variants (`MODEL-hash`) are
architectures of their own that no hyperparameter describes. A configuration is the model, its image
transform, learning rate, batch size, momentum and, for models that have it, dropout. Hardly any
configuration was trained on two datasets: the table serves studies of one task and surrogates that
generalise over configurations.
"""

import json
import re
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from ConfigSpace import Categorical, ConfigurationSpace, Float, InCondition, Integer

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space, config_key

METRIC = "accuracy"
MAX_EPOCH = 50  # what the long trials were given; a few ran further
ENTRY = re.compile(r"(?:^|.*/)stat/train/img-classification_([^_/]+)_acc_([^/-]+)/(\d+)\.json$")
NUMBERS = {"lr": float, "batch": int, "momentum": float}


def read_trials(
    path: Path,
) -> tuple[dict[tuple[str, str, str], Config], dict[tuple[str, str, str], dict[int, float]]]:
    """Configuration and accuracy by epoch of each trial, by (dataset, model, uid).

    Raises `BadInput` on another file.
    """
    configs: dict[tuple[str, str, str], Config] = {}
    curves: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    try:
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                if not (match := ENTRY.match(name)) or int(match[3]) > MAX_EPOCH:
                    continue
                for trial in json.loads(wheel.read(name)):
                    if not trial.keys() >= {"uid", "accuracy", "transform", *NUMBERS}:
                        continue
                    key = (match[1], match[2], str(trial["uid"]))
                    configs[key] = as_config(match[2], trial)
                    curves[key][int(match[3])] = float(trial["accuracy"])
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not the nn-dataset wheel: {error!r}") from error
    if not configs:
        raise BadInput(
            f"{path} holds no image-classification trials: the trials are in nn-dataset==2.1.2"
        )
    return configs, curves


def as_config(model: str, trial: dict[str, Any]) -> Config:
    """The hyperparameters of a trial that the space knows."""
    values: Config = {"model": model, "transform": str(trial["transform"])}
    values |= {k: kind(trial[k]) for k, kind in NUMBERS.items()}
    return values | ({"dropout": float(trial["dropout"])} if "dropout" in trial else {})


def space(configs: list[Config]) -> Space:
    """The space of these trials: models and transforms seen, dropout where the model has it."""
    models = sorted({c["model"] for c in configs})
    transforms = sorted({c["transform"] for c in configs})
    with_dropout = sorted({c["model"] for c in configs if "dropout" in c})
    out = ConfigurationSpace(name="LEMUR")
    model = Categorical("model", models)
    out.add([model, Categorical("transform", transforms), Integer("batch", (1, 4096), log=True)])
    out.add([Float("lr", (1e-5, 1.0), log=True), Float("momentum", (0.0, 1.0))])
    if with_dropout:
        dropout = Float("dropout", (0.0, 1.0))
        out.add(dropout)
        if with_dropout != models:
            out.add(InCondition(dropout, model, with_dropout))
    return Space(out)


def convert(src: Path | str, dest: Path | str) -> MetaDataset:
    """Convert the wheel `src` (or the only wheel in that folder) into the folder `dest`.

    Raises `BadInput`.
    """
    src = Path(src)
    wheels = sorted(src.glob("nn_dataset-*.whl")) if src.is_dir() else [src]
    if len(wheels) != 1:
        raise BadInput(
            f"{src} holds {len(wheels)} wheels named nn_dataset-*.whl; give one, such as that "
            "of nn-dataset==2.1.2"
        )
    configs, curves = read_trials(wheels[0])
    with_dropout = {c["model"] for c in configs.values() if "dropout" in c}
    kept = {k: c for k, c in configs.items() if ("dropout" in c) == (c["model"] in with_dropout)}
    numbers: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for key in sorted(kept):
        number = numbers.setdefault(config_key(kept[key]), len(numbers))
        rows += [
            {"task": key[0], "config_id": number, "epoch": e, METRIC: v, "uid": key[2]}
            for e, v in sorted(curves[key].items())
        ]
    repeats: dict[tuple[str, int], list[str]] = defaultdict(
        list
    )  # the same configuration trained twice on a dataset: seeds 0, 1, ...
    for row in rows:
        seen = repeats[str(row["task"]), int(row["config_id"])]
        if (uid := str(row.pop("uid"))) not in seen:
            seen.append(uid)
        row["seed"] = seen.index(uid)
    by_number = {numbers[config_key(c)]: c for c in kept.values()}
    meta = MetaDataset.build(
        space(list(kept.values())),
        dict(sorted(by_number.items())),
        rows,
        metric=METRIC,
        goal="maximize",
        name="LEMUR",
        source="nn-dataset 2.1.2 on the package index (github.com/ABrain-One/nn-dataset, MIT)",
        note=f"hand-written models only; {len(configs) - len(kept)} trials without their "
        "model's dropout left out",
        modality="image classification",
        max_epoch=max(int(r["epoch"]) for r in rows),
    )
    meta.save(dest)
    return meta
