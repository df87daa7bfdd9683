"""What a configuration asks the trainer to do.

`recipe` reads the knobs of `foretune.training.knobs`, from a configuration or fixed by the
settings, and the names of the HyperRec space (`foretune.space.catalogue`). A space may also hold
options of its optimizers, `adas.beta` or `sls.c` (`OPTIMIZER_OPTIONS`), each on condition that the
optimizer is the one that it names. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.space.catalogue import MODELS, PREFIX
from foretune.space.parameters import coerce
from foretune.space.space import Config, Space
from foretune.training.architectures import ARCHITECTURES
from foretune.training.knobs import (
    DEPTHS,
    KNOBS,
    LORA,
    SELF_TUNING,
    check_parameter,
    knob,
    meant,
)
from foretune.training.settings import Settings

# Raised when the trainer's numbers change for the same task, configuration, settings and seed:
# curves of two versions are never mixed (`foretune.running.collection`).
TRAINING_VERSION = 1
VIEWS = 4  # augmented copies of an image that frozen layers are shown
# how what every configuration needs is given where the space does not vary it
FOR_ALL = {"learning_rate": "learning_rate=0.001", "optimizer": "optimizer=adamw"}
DRAWS = 50  # of a space, to see whether the trainer understands it


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image, in this order: crop, flip and colour (`policy`), a learned
    policy (`auto`, with RandAugment's `magnitude`), erasing with a probability.
    """

    policy: str = "none"
    auto: str = "none"
    magnitude: int = 9
    erasing: float = 0.0

    @property
    def varies(self) -> bool:
        """Whether two views of an image differ."""
        return self != Augmentation(magnitude=self.magnitude)

    @property
    def views(self) -> int:
        """How many views of an image frozen layers are shown: epochs cycle through them."""
        return VIEWS if self.varies else 1


@dataclass(frozen=True)
class Recipe:
    """A configuration with everything filled in that it leaves open.

    `finetune` is a word or the share of layers; `dropout` None leaves the network's own.
    """

    network: str
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float = 0.0
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    scheduler: str = "cosine"
    scheduler_options: dict[str, float] = field(default_factory=dict)
    warmup_epochs: int = 0
    finetune: str | float = "all"
    lora_rank: int = 8
    layer_decay: float = 1.0
    clip_grad: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    dropout: float | None = None
    drop_path: float = 0.0
    ema: float = 0.0
    class_weights: bool = False
    balanced_sampling: bool = False

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0


# What of each optimizer a space may tune beside rate and weight decay, and of what type it is.
# beta1 and beta2 are torch's betas.
OPTIMIZER_OPTIONS: dict[str, dict[str, type]] = {
    "sgd": {"momentum": float, "dampening": float, "nesterov": bool},
    "adam": {"beta1": float, "beta2": float, "eps": float, "amsgrad": bool},
    "adamw": {"beta1": float, "beta2": float, "eps": float, "amsgrad": bool},
    "adagrad": {"lr_decay": float, "initial_accumulator_value": float, "eps": float},
    "rmsprop": {"alpha": float, "momentum": float, "eps": float, "centered": bool},
    "adabound": {"final_lr": float, "gamma": float, "beta1": float, "beta2": float, "eps": float},
    "adas": {"beta": float, "zeta": float, "momentum": float},
    "sls": {"c": float, "backtrack": float, "gamma": float, "tries": int, "smallest": float},
}
_BETAS = {"beta1": 0.9, "beta2": 0.999}  # of adam and adabound, where only the other one is given


def recipe(config: Mapping[str, Any], settings: Settings) -> Recipe:
    """What `config` asks the trainer to do, with what the settings fix.

    A fixed knob that means nothing beside this configuration (`momentum` with adamw) is left aside;
    in a configuration it is refused. Raises `BadInput` for a hyperparameter missing, not known, or
    of a value that it cannot have.
    """
    if "lr_scheduler" in config:
        if settings.fix:
            raise BadInput(
                f"--fix names {', '.join(settings.fix)}, which the space hyperrec has under names "
                "of its own: take another space"
            )
        return _hyperrec_recipe(config)
    options = {
        name: value
        for name, value in config.items()
        if name.partition(".")[0] in OPTIMIZER_OPTIONS and "." in name
    }
    given = {name: knob(name).taken(v) for name, v in config.items() if name not in options}
    values = {**{name: knob(name).taken(v) for name, v in settings.fix.items()}, **given}
    missing = {"learning_rate", "optimizer"} - set(values)
    if missing:
        raise BadInput(
            f"configuration lacks {' and '.join(sorted(missing))}: {dict(config)}; every one needs "
            "both, from the space or the same for all: "
            + " ".join(f"--fix {FOR_ALL[name]}" for name in sorted(missing))
        )
    for name in [name for name in values if not meant(values, name)]:
        if name in given:
            of, under = KNOBS[name].of or ("", ())
            raise BadInput(
                f"configuration has {name!r} with {of} = {values.get(of)!r}: make it conditional on "
                f"{of} = {' or '.join(map(repr, under))}"
            )
        del values[name]
    _refuse_contradictions(values, settings)
    scheduler = values.get("scheduler", "cosine")
    return Recipe(
        network=values.get("network", settings.network),
        batch_size=values.get("batch_size", settings.batch_size),
        optimizer=values["optimizer"],
        learning_rate=values["learning_rate"],
        optimizer_options={
            **{name: values[name] for name in ("momentum", "nesterov") if name in values},
            **_optimizer_options(values["optimizer"], options),
        },
        scheduler=scheduler,
        scheduler_options=_steps(values, settings) if scheduler == "step" else {},
        augmentation=Augmentation(
            values.get("augmentation", "none"),
            values.get("auto_augment", "none"),
            values.get("magnitude", 9),
            values.get("random_erasing", 0.0),
        ),
        **{
            name: values[name]
            for name in (
                "weight_decay", "warmup_epochs", "finetune", "lora_rank", "layer_decay", "clip_grad",
                "mixup", "cutmix", "label_smoothing", "dropout", "drop_path", "ema",
                "class_weights", "balanced_sampling",
            )
            if name in values
        },
    )  # fmt: skip


def _steps(values: Mapping[str, Any], settings: Settings) -> dict[str, float]:
    third = max(1, -(-settings.max_epoch // 3))
    return {
        "step_size": values.get("step_epochs", third),
        "gamma": values.get("step_factor", 0.1),
    }


def _refuse_contradictions(values: Mapping[str, Any], settings: Settings) -> None:
    """Raise `BadInput` for knobs that cannot be meant together."""
    if values.get("warmup_epochs", 0) >= settings.max_epoch:
        raise BadInput(
            f"warmup_epochs={values['warmup_epochs']} must be below the {settings.max_epoch} "
            "epochs of a full training (--max-epoch)"
        )
    if values.get("layer_decay", 1.0) < 1 and values["optimizer"] in SELF_TUNING:
        raise BadInput(
            f"layer_decay={values['layer_decay']} scales the rate of each layer, which "
            f"{values['optimizer']} sets itself: leave it out, or take another optimizer"
        )
    depth = values.get("finetune", "all")
    if depth == LORA and not settings.pretrained:
        raise BadInput(
            "finetune='lora' updates weights that were learned before, and --from-scratch has "
            f"none: one of {', '.join(DEPTHS)} would be right"
        )


def _optimizer_options(optimizer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `given`, named as in a configuration ("adas.beta"), means to the optimizer.

    Raises `BadInput` for an option that is not one of it.
    """
    out: dict[str, Any] = {}
    for full, value in given.items():
        of, _, name = full.partition(".")
        known = OPTIMIZER_OPTIONS[of]
        if name not in known:
            raise BadInput(
                f"hyperparameter {full!r} is no option of {of}: "
                f"{', '.join(f'{of}.{k}' for k in known)}"
            )
        if of != optimizer:
            raise BadInput(
                f"configuration has {full!r} with the optimizer {optimizer!r}: make it "
                f"conditional on optimizer = {of!r}"
            )
        out[name] = coerce(known[name], value, f"hyperparameter {full!r}")
    if out.keys() & _BETAS:
        out["betas"] = tuple(out.pop(name, default) for name, default in _BETAS.items())
    return out


def _hyperrec_recipe(config: Mapping[str, Any]) -> Recipe:
    try:
        if config["optimizer"] == "Adam":
            optimizer, prefix = "adam", "adam."
            options: dict[str, Any] = {
                "betas": (float(config["adam.beta0"]), float(config["adam.beta1"]))
            }
        elif config["optimizer"] == "Momentum":
            optimizer, prefix = "sgd", "momentum."
            options = {"momentum": float(config["momentum.momentum"])}
        else:
            raise BadInput(
                f"optimizer must be Adam or Momentum in this space, but got {config['optimizer']!r}"
            )
        scheduler = str(config["lr_scheduler"])
        if scheduler not in PREFIX:
            raise BadInput(
                f"lr_scheduler must be one of {', '.join(PREFIX)}, but got {scheduler!r}"
            )
        scheduler_prefix = PREFIX[scheduler]
        return Recipe(
            network=MODELS.get(str(config["model"]), str(config["model"])),
            batch_size=int(config["batch_size"]),
            optimizer=optimizer,
            learning_rate=float(config[prefix + "lr"]),
            weight_decay=float(config[prefix + "weight_decay"]),
            optimizer_options=options,
            scheduler=scheduler,
            scheduler_options={
                key.removeprefix(scheduler_prefix): float(value)
                for key, value in config.items()
                if key.startswith(scheduler_prefix)
            },
        )
    except KeyError as error:
        raise BadInput(f"configuration lacks {error}: {dict(config)}") from error


def recipes_of(space: Space, settings: Settings) -> list[Recipe]:
    """What the default and `DRAWS` random configurations of `space` ask for.

    Raises `BadInput`, before anything is trained, where the trainer would not understand one: an
    unknown hyperparameter, a bound or choice that cannot be meant, a missing condition.
    """
    for name in settings.fix:
        knob(name).taken(settings.fix[name], f"--fix {name}={settings.fix[name]}")
    if "lr_scheduler" not in space.parameters:
        for name, parameter in space.parameters.items():
            if name.partition(".")[0] not in OPTIMIZER_OPTIONS or "." not in name:
                check_parameter(parameter)
    configs = (space.default(), *space.sample(DRAWS, np.random.default_rng(0)))
    return [recipe(config, settings) for config in configs]


def default_config(network: str = "mobilenet_v2") -> Config:
    """What an engineer would take without tuning.

    Adam at 1e-3 (3e-4 for a heavy network, or one that is not in `ARCHITECTURES`), all but the
    earliest layers fine-tuned, augmentation.
    """
    light = network in ARCHITECTURES and not ARCHITECTURES[network].heavy
    rate = 1e-3 if light else 3e-4
    return {
        "learning_rate": rate,
        "optimizer": "adam",
        "finetune": "most",
        "augmentation": "crop_flip_colour",
    }
