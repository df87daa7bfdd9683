"""How much wider than it says a forecast's interval must be, by what past tasks came to.

A pick is made for its forecast, which flatters it, and a Gaussian's tails are thinner than those of
trainings. So a quarter of the past tasks is left out at a time: some runs of each are shown, the best
picks among its others are forecast from these and the other tasks, and held against what they came
to. The factor is that by which 90 % of the deviations stay within what 90 % intervals allow, with
`PRIOR` tasks' worth of what was found on a public store of 28 tasks, so that a store of few tasks is
not believed too much.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from foretune.errors import BadInput
from foretune.gaussian.acquisition import expected_improvement
from foretune.searchers.transfer.run_columns import OUTCOMES, SCORE, TASK, columns_of
from foretune.searchers.transfer.run_prior import RunPrior, past_unit
from foretune.searchers.transfer.run_surrogate import Laws, RunSurrogate, usable

if TYPE_CHECKING:
    import pandas as pd

USUAL, PRIOR = 1.25, 4.0  # the factor found on the public store, and how many tasks it counts for
FOLDS = 4  # parts of the past tasks, each left out once
TASKS, DRAWS, PICKS = 40, 4, 3  # past tasks at most, draws of each, picks of a draw
LEAST_RUNS = 6  # of a task that is left out
MOST_RUNS = 4000  # of the past
WITHIN, DEVIATE = 0.9, 1.6449  # of intervals, and half their width in standard deviations
MOST = 3.0


def widening(history: "pd.DataFrame", surrogate: RunSurrogate, shown: int, seed: int = 0) -> float:
    """The factor for forecasts after `shown` runs of a task; `surrogate` is what `history` taught,
    whose laws are kept.
    """
    rng = np.random.default_rng(seed)
    runs = usable(history)
    names = runs[TASK].astype(str)
    count = names.value_counts()
    tasks = rng.permutation(sorted(count.index))[:TASKS]
    runs = runs[names.isin(set(tasks))]
    most = max(LEAST_RUNS, MOST_RUNS // len(tasks))
    runs = runs.iloc[rng.permutation(len(runs))].groupby(TASK).head(most)
    found: list[np.ndarray] = []
    for fold in np.array_split(tasks, min(FOLDS, len(tasks))):
        here = runs[TASK].astype(str).isin(set(fold))
        found += deviations(runs[~here], runs[here], surrogate, shown, rng)
    if not found:
        return USUAL
    needed = max(float(np.quantile(np.concatenate(found), WITHIN)) / DEVIATE, 1e-3)
    log = (len(found) * math.log(needed) + PRIOR * math.log(USUAL)) / (len(found) + PRIOR)
    return min(max(1.0, math.exp(log)), MOST)


def deviations(
    past: "pd.DataFrame",
    left_out: "pd.DataFrame",
    surrogate: RunSurrogate,
    shown: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Of each task of `left_out` what picks among its runs came to, as distances from their
    forecasts in standard deviations; nothing where the `past` has nothing to say.
    """
    try:
        without = RunSurrogate(past, laws=laws_for(past, surrogate))
    except BadInput:
        return []
    unit = past_unit(without.location, without.scale, without.laws.level)
    out = []
    for _, own in left_out.groupby(TASK):
        n = len(own)
        if n < LEAST_RUNS:
            continue
        points, scores = without.columns.encode(own), own[SCORE].to_numpy(dtype=float)
        prior = RunPrior(without.forecast_at(points), unit, points, 1, variance=without.variance)
        found = []
        for _ in range(DRAWS if shown else 1):
            at = rng.permutation(n)[: min(shown, n // 2)]
            belief = prior.believe(at, np.zeros(len(at), dtype=int), scores[at], np.zeros(1, int))
            others = np.setdiff1d(np.arange(n), at)
            mean, std = belief.mean[:, others, 0], belief.std[:, others, 0]
            middle, spread = moments(belief.weight, mean, std)
            value = middle
            if len(at):
                value = belief.weight @ expected_improvement(mean, std, float(scores[at].max()))
            picks = np.argsort(-value, kind="stable")[:PICKS]
            found.append(np.abs(scores[others] - middle)[picks] / spread[picks])
        out.append(np.concatenate(found))
    return out


def moments(weight: np.ndarray, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n,) of mixtures of normal laws (hypotheses, n)."""
    middle = weight @ mean
    return middle, np.sqrt(weight @ (std**2 + (mean - middle) ** 2))


def widened(
    weight: np.ndarray, mean: np.ndarray, std: np.ndarray, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations (hypotheses, n) of which the mixture is `factor` times as wide about the
    same middle.
    """
    middle = weight @ mean
    return middle + factor * (mean - middle), factor * std


def laws_for(runs: "pd.DataFrame", surrogate: RunSurrogate) -> Laws:
    """The laws of `surrogate` for the columns that `runs` have."""
    known = dict(zip(surrogate.columns.names, surrogate.laws.theta, strict=True))
    frame = usable(runs)
    columns = columns_of(frame, [str(c) for c in frame.columns if c not in OUTCOMES])
    return replace(surrogate.laws, theta=np.array([known.get(c.name, 0.0) for c in columns]))
