"""A world where the learning rate decides: past runs of three hyperparameters, a study of ten.

The score of a fully trained run is .8 - .3 (log10 learning_rate + 2.5)^2 / 4, less a little for the
others, and the best rate moves a little from task to task.
"""

import numpy as np
import pandas as pd

from foretune.space.space import Config, Space
from foretune.study.plan import Plan
from foretune.study.study import Study

EPOCHS = 4
BEST_RATE = -2.5  # log10


def number(name: str, lower: float, upper: float, log: bool = False) -> dict:
    """A hyperparameter as ConfigSpace's JSON has it."""
    middle = (lower * upper) ** 0.5 if log else (lower + upper) / 2
    shape = {"type": "uniform_float", "name": name, "lower": lower, "upper": upper}
    return {**shape, "default_value": middle, "log": log, "meta": None}


SHARED = [
    number("learning_rate", 1e-5, 1.0, log=True),
    number("weight_decay", 1e-6, 1e-1, log=True),
    number("dropout", 0.0, 0.9),
]
UNKNOWN = [number(f"unknown_{k}", 0.0, 1.0) for k in range(7)]


def space_of(hyperparameters: list, conditions: tuple = ()) -> Space:
    """A space of these hyperparameters."""
    described = {
        "name": "world",
        "hyperparameters": hyperparameters,
        "conditions": list(conditions),
    }
    return Space({**described, "forbiddens": [], "format_version": 0.4})


def score(config: Config, best: float = BEST_RATE) -> float:
    """Value after a full training."""
    loss = 0.3 * (np.log10(config["learning_rate"]) - best) ** 2 / 4
    loss += 0.03 * abs(config.get("dropout", 0.5) - 0.2)
    loss += 0.02 * sum((config.get(f"unknown_{k}", 0.5) - 0.5) ** 2 for k in range(7))
    return float(0.8 - loss)


def past_runs(tasks: int = 6, runs: int = 20, seed: int = 0) -> pd.DataFrame:
    """Runs of the shared hyperparameters on past tasks."""
    rng, space = np.random.default_rng(seed), space_of(SHARED)
    rows = []
    for t in range(tasks):
        best = BEST_RATE + 0.2 * rng.normal()
        for config in space.sample(runs, rng):
            value = score(config, best) + 0.01 * rng.normal()
            rows.append({**config, "network": "resnet18", "task": f"t{t}", "score": value})
    return pd.DataFrame(rows)


def permuted(runs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The same runs, their scores dealt out at random within each task."""
    rng = np.random.default_rng(seed)
    return runs.assign(score=runs.groupby("task")["score"].transform(rng.permutation))


def study_of(
    runs: pd.DataFrame | None,
    configs: list[Config] | None = None,
    *,
    trainings: int = 3,
    seed: int = 0,
    space: Space | None = None,
) -> Study:
    """A study of ten hyperparameters, open unless it has a pool."""
    plan = Plan(
        task="new",
        metric="accuracy",
        goal="maximize",
        max_epoch=EPOCHS,
        budget=trainings * EPOCHS,
        seed=seed,
        open=configs is None,
    )
    return Study(space or space_of(SHARED + UNKNOWN), configs or [], plan, runs=runs)


def play(study: Study, searcher) -> float:
    """Run the study to its end; the regret of its best run's score if fully trained."""
    while not study.done and (step := study.ask(searcher)) is not None:
        final = score(study.configs[step.config_id])
        study.tell(step, [final * (1 - 0.5 ** (e + 1)) for e in range(step.start, step.stop)])
    tried = np.flatnonzero(study.epoch == EPOCHS)
    return 0.8 - max((score(study.configs[i]) for i in tried), default=0.0)
