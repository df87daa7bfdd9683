"""The search spaces that come with foretune, and their pools of configurations.

| space              | hyperparameters                      | pool                                 |
|--------------------|--------------------------------------|--------------------------------------|
| `transfer_space()` | learning_rate, optimizer, finetune,  | `transfer_pool()`: 108,              |
|                    | augmentation (HyperSTAR, section 5)  | `heavy_pool()`: 40                   |
| `preset("quick")`  | learning_rate, optimizer (AdamW,     | sample it                            |
|                    | SGD), finetune, augmentation         |                                      |
| `preset("standard")` | ... weight decay, warm-up, batch,  | sample it                            |
|                    | smoothing, TrivialAugment, dropout   |                                      |
| `preset("strong")` | ... mixup, cutmix, erasing, layer    | sample it                            |
|                    | decay, EMA, clipping                 |                                      |
| `hyperrec_space()` | batch_size, model, optimizer and     | sample it                            |
|                    | scheduler with their own parameters  |                                      |
|                    | (AT2, appendix B.2)                  |                                      |

HyperSTAR names the dimensions and the sizes 108 and 40 but no values; the grids here are ours,
chosen so that tuning matters (docs/guide/networks.md has the spread and each task's best).
A configuration is a plain dict; `foretune.training.recipe` reads both spaces' names. Nothing here
imports torch.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from foretune.space.space import Config, Space

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 5e-3, 2e-2, 1e-1)
OPTIMIZERS = ("sgd", "adam", "adagrad")
# the trainer also knows "all" (foretune.training.trial.networks): 1.5 times the cost of "most"
DEPTHS = ("head", "last_blocks", "most")
AUGMENTATIONS = ("none", "crop_flip_colour")
MODELS = {"ResNet34": "resnet34", "ResNet50": "resnet50"}
PREFIX = {
    "StepLR": "steplr.",
    "ExponentialLR": "exponentiallr.",
    "CyclicLR": "cycliclr.",
    "CAWR": "cawr.",
}


# as a file of `foretune.space.written` would have them
_QUICK: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 3e-2, "log": True, "default": 1e-3},
    "optimizer": ["adamw", "sgd"],
    "finetune": {"order": ["head", "last_blocks", "most"], "default": "most"},
    "augmentation": {
        "choices": ["none", "crop", "crop_flip_colour"],
        "default": "crop_flip_colour",
    },
}
_STANDARD: dict[str, Any] = {
    **_QUICK,
    "learning_rate": {"low": 1e-5, "high": 1e-1, "log": True, "default": 1e-3},
    "finetune": {"order": ["head", "last_blocks", "most", "all"], "default": "most"},
    "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True, "default": 1e-2},
    "momentum": {"low": 0.8, "high": 0.99, "default": 0.9, "if": "optimizer == sgd"},
    "batch_size": {"order": [16, 32, 64], "default": 32},
    "warmup_epochs": {"order": [0, 1, 2], "default": 1},
    "label_smoothing": {"order": [0.0, 0.05, 0.1, 0.2], "default": 0.0},
    "auto_augment": ["none", "trivialaugment"],
    "dropout": {"low": 0.0, "high": 0.5, "default": 0.2},
}
_STRONG: dict[str, Any] = {
    **_STANDARD,
    "auto_augment": ["none", "trivialaugment", "randaugment"],
    "magnitude": {"low": 3, "high": 15, "default": 9, "if": "auto_augment == randaugment"},
    "mixup": {"order": [0.0, 0.1, 0.2, 0.8], "default": 0.0},
    "cutmix": {"order": [0.0, 0.2, 1.0], "default": 0.0},
    "random_erasing": {"order": [0.0, 0.1, 0.25], "default": 0.0},
    "layer_decay": {"low": 0.6, "high": 1.0, "default": 1.0},
    "ema": {"order": [0.0, 0.99, 0.998], "default": 0.0},
    "clip_grad": {"order": [0.0, 1.0, 5.0], "default": 0.0},
}
PRESETS = {"quick": _QUICK, "standard": _STANDARD, "strong": _STRONG}


def preset(name: str) -> Space:
    """One of `PRESETS` as a space, for any network."""
    from foretune.space.written import space_of

    return space_of(PRESETS[name], name)


def transfer_space() -> ConfigurationSpace:
    """HyperSTAR's four dimensions of transfer learning, the learning rate on the log scale."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, OrdinalHyperparameter

    space = ConfigurationSpace(name="transfer")
    space.add(
        Float("learning_rate", (LEARNING_RATES[0], LEARNING_RATES[-1]), log=True, default=1e-3),
        Categorical("optimizer", list(OPTIMIZERS), default="adam"),
        OrdinalHyperparameter("finetune", list(DEPTHS), default_value="most"),
        Categorical("augmentation", list(AUGMENTATIONS), default="crop_flip_colour"),
    )
    return space


def _grid(
    rates: tuple[float, ...], optimizers: tuple[str, ...], depths: tuple[str, ...]
) -> list[Config]:
    names = ("learning_rate", "optimizer", "finetune", "augmentation")
    return [
        dict(zip(names, values, strict=True))
        for values in product(rates, optimizers, depths, AUGMENTATIONS)
    ]


def transfer_pool() -> list[Config]:
    """The 108 configurations for light networks.

    6 learning rates x 3 optimizers x 3 depths x 2 augmentations.
    """
    return _grid(LEARNING_RATES, OPTIMIZERS, DEPTHS)


def heavy_pool() -> list[Config]:
    """The 40 configurations for heavy networks.

    5 learning rates x 2 optimizers x 2 depths x 2 augmentations.
    """
    return _grid(LEARNING_RATES[:5], OPTIMIZERS[:2], DEPTHS[1:])


def hyperrec_space() -> ConfigurationSpace:
    """The nested space of the AT2 paper (appendix B.2, tables 5 to 7).

    Names are those of its published database.

    Momentum stops at 0.999, where the paper has 1: a momentum of 1 never forgets a gradient.
    """
    from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer

    space = ConfigurationSpace(name="hyperrec")
    optimizer = Categorical("optimizer", ["Adam", "Momentum"])
    scheduler = Categorical("lr_scheduler", list(PREFIX))
    space.add(
        Integer("batch_size", (32, 128)), scheduler, Categorical("model", list(MODELS)), optimizer
    )
    children: list[tuple[Any, str, Any]] = [
        (optimizer, "Adam", Float("adam.lr", (1e-4, 1e-1), log=True)),
        (optimizer, "Adam", Float("adam.weight_decay", (1e-5, 1e-3), log=True)),
        (optimizer, "Adam", Float("adam.beta0", (0.5, 0.999), log=True)),
        (optimizer, "Adam", Float("adam.beta1", (0.8, 0.999), log=True)),
        (optimizer, "Momentum", Float("momentum.lr", (1e-4, 1e-1), log=True)),
        (optimizer, "Momentum", Float("momentum.weight_decay", (1e-5, 1e-3), log=True)),
        (optimizer, "Momentum", Float("momentum.momentum", (1e-3, 0.999), log=True)),
        (scheduler, "StepLR", Integer("steplr.step_size", (2, 20))),
        (scheduler, "StepLR", Float("steplr.gamma", (0.1, 0.5), log=True)),
        (scheduler, "ExponentialLR", Float("exponentiallr.gamma", (0.85, 0.999), log=True)),
        (scheduler, "CyclicLR", Float("cycliclr.gamma", (0.1, 0.5), log=True)),
        (scheduler, "CyclicLR", Float("cycliclr.max_lr_ratio", (1.1, 1.5))),
        (scheduler, "CyclicLR", Integer("cycliclr.step_size_up", (1, 10))),
        (scheduler, "CAWR", Integer("cawr.T_0", (2, 20))),
        (scheduler, "CAWR", Integer("cawr.T_mult", (1, 4))),
        (scheduler, "CAWR", Float("cawr.eta_min_ratio", (0.5, 0.9))),
    ]
    space.add(*(child for _, _, child in children))
    space.add(*(EqualsCondition(child, parent, value) for parent, value, child in children))
    return space
