"""A small meta-dataset made of formulas: for examples, tests and a first look at a method, at no
cost.

Curves are a - (a - 0.1) * exp(-r e) plus noise, with `a` highest at a learning rate that differs a
little by task, and lower for a weak optimizer or a wrong depth; high learning rates with SGD
diverge. What it shows about methods is only that their wiring holds.
"""

import math

import numpy as np
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Config, Space


def synthetic_space() -> Space:
    """Learning rate (log), optimizer, momentum (only with sgd) and depth."""
    space = ConfigurationSpace("synthetic", seed=0)
    space.add(Float("learning_rate", (1e-4, 1.0), log=True, default=1e-2))
    optimizer = Categorical("optimizer", ["sgd", "adam", "adagrad"], default="sgd")
    momentum = Float("momentum", (0.0, 0.99), default=0.9)
    space.add(optimizer, momentum, Categorical("finetune", ["head", "all"], default="head"))
    space.add(EqualsCondition(momentum, optimizer, "sgd"))
    return Space(space)


def synthetic_meta(
    tasks: int = 5, configs: int = 40, epochs: int = 9, seed: int = 0, goal: str = "maximize"
) -> MetaDataset:
    """Tasks t0, t1, ... of `configs` shared configurations; `goal` "minimize" gives an error rate,
    else an accuracy.
    """
    rng = np.random.default_rng(seed)
    space = synthetic_space()
    pool = space.sample(configs, rng)
    optimum = -2.0 + rng.normal(0, 0.4, tasks)  # log10 of each task's best learning rate
    metric = "valid_accuracy" if goal == "maximize" else "valid_error_rate"
    rows = []
    for t in range(tasks):
        for i, config in enumerate(pool):
            for epoch, value in enumerate(curve(config, float(optimum[t]), epochs, rng)):
                shown = value if goal == "maximize" else 1.0 - value
                rows.append(
                    {
                        "task": f"t{t}",
                        "config_id": i,
                        "seed": 0,
                        "epoch": epoch,
                        metric: shown,
                        "seconds": 0.5 if epoch else 0.0,
                    }
                )
                if math.isnan(value):
                    break
    about = {
        "name": "synthetic",
        "source": "formulas of synthetic",
        "max_epoch": epochs,
        "tasks": [f"t{t}" for t in range(tasks)],
    }
    return MetaDataset.build(space, dict(enumerate(pool)), rows, metric=metric, goal=goal, **about)


def curve(config: Config, optimum: float, epochs: int, rng: np.random.Generator) -> list[float]:
    """Accuracies of epochs 0 .. `epochs`, NaN from where the configuration diverges."""
    distance = math.log10(config["learning_rate"]) - optimum
    weak = {"sgd": 0.03 - 0.03 * config.get("momentum", 0.0), "adam": 0.0, "adagrad": 0.05}[
        config["optimizer"]
    ]
    best = 0.95 - 0.12 * distance**2 - weak - (0.04 if config["finetune"] == "head" else 0.0)
    best = max(0.1, best)
    noise = rng.normal(0, 0.004, epochs + 1)
    values = [best - (best - 0.1) * math.exp(-0.6 * e) + float(noise[e]) for e in range(epochs + 1)]
    if config["optimizer"] == "sgd" and config["learning_rate"] > 0.1:
        values[3:] = [math.nan] * (epochs - 2)
    return [float(v) for v in np.clip(values, 0.0, 1.0)]
