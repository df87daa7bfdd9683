"""What a configuration asks the trainer to do.

`recipe` reads the names of the transfer space and of the HyperRec space
(`foretune.space.catalogue`). A space with the transfer space's names may also hold options of its
optimizers, `adas.beta` or `sls.c` (`OPTIMIZER_OPTIONS`), each on condition that the optimizer is
the one that it names. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretune.errors import BadInput
from foretune.space.catalogue import MODELS, PREFIX
from foretune.space.parameters import coerce
from foretune.space.space import Config
from foretune.training.settings import Settings

# Raised when the trainer's numbers change for the same task, configuration, settings and seed:
# curves of two versions are never mixed (`foretune.running.collection`).
TRAINING_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """A configuration with everything filled in that it leaves open."""

    network: str
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float = 0.0
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    scheduler: str = "cosine"
    scheduler_options: dict[str, float] = field(default_factory=dict)
    finetune: str = "all"
    augmentation: str = "none"


_TRANSFER = {
    "learning_rate",
    "optimizer",
    "finetune",
    "augmentation",
    "batch_size",
    "weight_decay",
    "scheduler",
    "network",
}


# What of each optimizer a space may tune beside rate and weight decay, and of what type it is.
# beta1 and beta2 are torch's betas.
OPTIMIZER_OPTIONS: dict[str, dict[str, type]] = {
    "sgd": {"momentum": float, "dampening": float, "nesterov": bool},
    "adam": {"beta1": float, "beta2": float, "eps": float, "amsgrad": bool},
    "adagrad": {"lr_decay": float, "initial_accumulator_value": float, "eps": float},
    "rmsprop": {"alpha": float, "momentum": float, "eps": float, "centered": bool},
    "adabound": {"final_lr": float, "gamma": float, "beta1": float, "beta2": float, "eps": float},
    "adas": {"beta": float, "zeta": float, "momentum": float},
    "sls": {"c": float, "backtrack": float, "gamma": float, "tries": int, "smallest": float},
}
_BETAS = {"beta1": 0.9, "beta2": 0.999}  # of adam and adabound, where only the other one is given


def recipe(config: Mapping[str, Any], settings: Settings) -> Recipe:
    """What `config`, of either space, asks the trainer to do.

    Raises `BadInput` for a hyperparameter missing or not known.
    """
    if "lr_scheduler" in config:
        return _hyperrec_recipe(config)
    options = {
        name: value
        for name, value in config.items()
        if name.partition(".")[0] in OPTIMIZER_OPTIONS and "." in name
    }
    unknown = set(config) - _TRANSFER - set(options)
    if unknown:
        raise BadInput(
            "configuration has hyperparameters the trainer does not know: "
            f"{', '.join(sorted(unknown))}; it knows {sorted(_TRANSFER)}"
        )
    missing = {"learning_rate", "optimizer"} - set(config)
    if missing:
        raise BadInput(f"configuration lacks {', '.join(sorted(missing))}: {dict(config)}")
    return Recipe(
        network=str(config.get("network", settings.network)),
        batch_size=int(config.get("batch_size", settings.batch_size)),
        optimizer=str(config["optimizer"]),
        learning_rate=float(config["learning_rate"]),
        weight_decay=float(config.get("weight_decay", 0.0)),
        optimizer_options=_optimizer_options(str(config["optimizer"]), options),
        scheduler=str(config.get("scheduler", "cosine")),
        finetune=str(config.get("finetune", "all")),
        augmentation=str(config.get("augmentation", "none")),
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


def default_config(network: str = "mobilenet_v2") -> Config:
    """What an engineer would take without tuning.

    Adam at 1e-3 (3e-4 for a heavy network), all but the earliest layers fine-tuned, augmentation.
    """
    from foretune.training.networks import architecture

    rate = 3e-4 if architecture(network).heavy else 1e-3
    return {
        "learning_rate": rate,
        "optimizer": "adam",
        "finetune": "most",
        "augmentation": "crop_flip_colour",
    }
