"""What a trainer does where a run says nothing: the defaults of the tools that runs come from.

A column that a run does not name was not unknown, it had its trainer's default. Sources, in this
order: timm 1.0 `train.py`, transformers 4 `TrainingArguments`, ultralytics 8 `default.yaml`,
torchvision's `references/classification/train.py`, Lightning 2 `Trainer`, Keras 3 `compile`/`fit`,
foretune's own recipe.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from foretune.history.vocabulary import normal

if TYPE_CHECKING:
    import pandas as pd

OFF = {
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "random_erasing": 0.0,
    "ema": 0.0,
    "accumulation": 1,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "timm": {
        **OFF,
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 2e-5,
        "scheduler": "cosine",
        "warmup_epochs": 5,
        "epochs": 300,
        "batch_size": 128,
        "label_smoothing": 0.1,
        "dropout": 0.0,
        "drop_path": 0.0,
        "clip_grad": 0.0,
        "augmentation": "none",
        "colour_jitter": 0.4,
        "flip": 0.5,
        "min_learning_rate": 0.0,
        "pretrained": False,
        "seed": 42,
    },
    "huggingface": {
        **OFF,
        "optimizer": "adamw",
        "learning_rate": 5e-5,
        "weight_decay": 0.0,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "clip_grad": 1.0,
        "epochs": 3,
        "batch_size": 8,
        "scheduler": "linear",
        "warmup_epochs": 0,
        "warmup_share": 0.0,
        "seed": 42,
    },
    "ultralytics": {
        "optimizer": "auto",
        "learning_rate": 0.01,
        "momentum": 0.937,
        "weight_decay": 5e-4,
        "warmup_epochs": 3,
        "scheduler": "linear",
        "epochs": 100,
        "batch_size": 16,
        "dropout": 0.0,
        "augmentation": "randaugment",
        "random_erasing": 0.4,
        "flip": 0.5,
        "mixup": 0.0,
        "cutmix": 0.0,
        "pretrained": True,
        "seed": 0,
    },
    "torchvision": {
        **OFF,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "epochs": 90,
        "batch_size": 32,
        "scheduler": "step",
        "decay_epochs": 30,
        "decay_rate": 0.1,
        "warmup_epochs": 0,
        "clip_grad": 0.0,
    },
    "lightning": {"epochs": 1000, "accumulation": 1, "clip_grad": 0.0},
    "keras-tuner": {"batch_size": 32, "epochs": 1, "label_smoothing": 0.0},
    "foretune": {
        **OFF,
        "weight_decay": 0.0,
        "scheduler": "cosine",
        "finetune": "all",
        "augmentation": "none",
        "warmup_epochs": 0,
    },
}


# names that only this trainer's arguments have, in the spelling of `vocabulary.normal`
FINGERPRINTS: dict[str, set[str]] = {
    "timm": {
        "reprob",
        "remode",
        "smoothing",
        "sched",
        "opt",
        "hflip",
        "drop_path",
        "aug_splits",
        "lr_base",
    },
    "huggingface": {
        "per_device_train_batch_size",
        "lr_scheduler_type",
        "adam_epsilon",
        "max_grad_norm",
        "label_smoothing_factor",
        "num_train_epochs",
    },
    "ultralytics": {"lr0", "lrf", "imgsz", "warmup_bias_lr", "fliplr", "hsv_h", "nbs"},
    "torchvision": {"lr_step_size", "lr_gamma", "norm_weight_decay", "train_crop_size", "ra_reps"},
}
FEWEST_NAMES = 3


def trainer_of(names: Iterable[str]) -> str:
    """The trainer whose arguments these names are: at least `FEWEST_NAMES` that only it has; else
    an empty text.
    """
    known = {normal(name) for name in names}
    found = {trainer: len(known & marks) for trainer, marks in FINGERPRINTS.items()}
    best = max(found, key=lambda trainer: found[trainer])
    return best if found[best] >= FEWEST_NAMES else ""


def with_defaults(runs: "pd.DataFrame") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The table of runs with each trainer's defaults where a run says nothing, and a table of the
    same rows that is True where a cell was filled so.

    `runs` has a column `trainer`; columns that no run has and some trainer knows are added.
    """
    import pandas as pd

    filled = runs.copy()
    asked = pd.DataFrame(False, index=runs.index, columns=runs.columns)
    for trainer, defaults in DEFAULTS.items():
        rows = runs["trainer"] == trainer
        if not rows.any():
            continue
        for column, value in defaults.items():
            if column not in filled:
                filled[column] = pd.Series(None, index=runs.index, dtype=object)
                asked[column] = False
            missing = rows & filled[column].isna()
            if missing.any():
                if filled[column].dtype != object:
                    filled[column] = filled[column].astype(object)
                filled.loc[missing, column] = value
                asked.loc[missing, column] = True
    return filled.infer_objects(), asked
