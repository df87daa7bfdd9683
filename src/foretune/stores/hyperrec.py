"""HyperRec as the AT2 authors ship it: 100 configurations, 75 epochs, 2 seeds.

Its image-classification space is nested.

Source: github.com/xiaoyuxin1002/amortized-auto-tuning, data/HyperRec (MIT). Scheduler and optimizer
parameters are stored as PyTorch takes them; here they are hyperparameters of the space: `max_lr`
and `eta_min` as a ratio to the learning rate. The paper names SGD "Momentum". The metric is called
top-5 validation accuracy in the paper.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer
from ConfigSpace.hyperparameters import Hyperparameter

from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space
from foretune.stores.at2 import known_pairs, long_table, read_release

METRIC = "valid_top5_accuracy"
MODELS = {"resnet34": "ResNet34", "resnet50": "ResNet50"}
OPTIMIZERS = {"Adam": "Adam", "SGD": "Momentum"}
SCHEDULERS = {
    "StepLR": "StepLR",
    "ExponentialLR": "ExponentialLR",
    "CyclicLR": "CyclicLR",
    "CosineAnnealingWarmRestarts": "CAWR",
}
PAIRS = {  # the paper's five test tasks and what each learns from
    "CIFAR100": ["IMAGENET64SUB1", "SUN397SUB3", "SUN397SUB2", "OIPETS"],
    "IP102": ["PLACE365SUB3", "FLOWER102", "AWA2", "PLANT39"],
    "SCENE15": ["PLACE365SUB1", "FOOD101", "CIFAR10", "BOOKCOVER30"],
    "CUB200": ["SUN397SUB1", "IMAGENET64SUB3", "CALTECH256", "CARS196"],
    "RESISC45": ["IMAGENET64SUB2", "ISR", "PLACE365SUB2", "SDD"],
}


def space() -> Space:
    """The nested space of HyperRec: two optimizers, four schedulers, each with its own."""
    out = ConfigurationSpace(name="HyperRec")
    children: dict[tuple[str, str], list[Hyperparameter[Any, Any]]] = {
        ("optimizer", "Adam"): [
            Float("adam.lr", (1e-4, 0.1), log=True),
            Float("adam.beta0", (0.5, 0.999), log=True),
            Float("adam.beta1", (0.8, 0.999), log=True),
            Float("adam.weight_decay", (1e-5, 1e-3), log=True),
        ],
        ("optimizer", "Momentum"): [
            Float("momentum.lr", (1e-4, 0.1), log=True),
            Float("momentum.momentum", (1e-3, 1.0), log=True),
            Float("momentum.weight_decay", (1e-5, 1e-3), log=True),
        ],
        ("lr_scheduler", "StepLR"): [
            Integer("steplr.step_size", (2, 20)),
            Float("steplr.gamma", (0.1, 0.5), log=True),
        ],
        ("lr_scheduler", "ExponentialLR"): [Float("exponentiallr.gamma", (0.85, 0.999), log=True)],
        ("lr_scheduler", "CyclicLR"): [
            Float("cycliclr.gamma", (0.1, 0.5), log=True),
            Float("cycliclr.max_lr_ratio", (1.1, 1.5)),
            Integer("cycliclr.step_size_up", (1, 10)),
        ],
        ("lr_scheduler", "CAWR"): [
            Integer("cawr.T_0", (2, 20)),
            Integer("cawr.T_mult", (1, 4)),
            Float("cawr.eta_min_ratio", (0.5, 0.9)),
        ],
    }
    parents = {
        "optimizer": Categorical("optimizer", list(OPTIMIZERS.values())),
        "lr_scheduler": Categorical("lr_scheduler", list(SCHEDULERS.values())),
    }
    out.add(
        [
            Integer("batch_size", (32, 128)),
            Categorical("model", list(MODELS.values())),
            *parents.values(),
        ]
    )
    for (parent, value), parameters in children.items():
        out.add(parameters)
        out.add([EqualsCondition(p, parents[parent], value) for p in parameters])
    return Space(out)


def config(raw: Mapping[str, Any]) -> Config:
    """A published configuration in the terms of `space`."""
    optimizer, scheduler = OPTIMIZERS[raw["optimizer"]], SCHEDULERS[raw["scheduler"]]
    arguments, schedule = raw["optimizer_param"], raw["scheduler_param"]
    lr = arguments["lr"]
    values: Config = {
        "batch_size": raw["batchsize"],
        "model": MODELS[raw["model"]],
        "optimizer": optimizer,
        "lr_scheduler": scheduler,
    }
    if optimizer == "Adam":
        own = {
            "lr": lr,
            "beta0": arguments["betas"][0],
            "beta1": arguments["betas"][1],
            "weight_decay": arguments["weight_decay"],
        }
    else:
        own = {
            "lr": lr,
            "momentum": arguments["momentum"],
            "weight_decay": arguments["weight_decay"],
        }
    values |= {f"{optimizer.lower()}.{k}": v for k, v in own.items()}
    match scheduler:
        case "StepLR":
            own = {"step_size": schedule["step_size"], "gamma": schedule["gamma"]}
        case "ExponentialLR":
            own = {"gamma": schedule["gamma"]}
        case "CyclicLR":
            own = {
                "gamma": schedule["gamma"],
                "max_lr_ratio": schedule["max_lr"] / lr,
                "step_size_up": schedule["step_size_up"],
            }
        case _:
            own = {
                "T_0": schedule["T_0"],
                "T_mult": schedule["T_mult"],
                "eta_min_ratio": schedule["eta_min"] / lr,
            }
    return values | {f"{scheduler.lower()}.{k}": v for k, v in own.items()}


def convert(src: Path | str, dest: Path | str) -> MetaDataset:
    """Convert the folder `src` (configs.pkl, profiles.pkl) into the meta-dataset folder `dest`.

    Raises `BadInput`.
    """
    raw, profiles = read_release(Path(src))
    tasks = sorted({t for curves in profiles.values() for t in curves})
    meta = MetaDataset.build(
        space(),
        {k: config(c) for k, c in sorted(raw.items())},
        long_table(profiles, METRIC, first_epoch=1),
        metric=METRIC,
        goal="maximize",
        name="HyperRec",
        source="github.com/xiaoyuxin1002/amortized-auto-tuning, data/HyperRec (MIT)",
        modality="image classification",
        paper_pairs=known_pairs(PAIRS, tasks),
        tasks=tasks,
    )
    meta.save(dest)
    return meta
