"""What a recommender computes for one task: scores of all configurations, and a forecast.

What is said about it to people, and which past runs stand behind it, is
`foretune.recommenders.explanation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foretune.errors import BadInput
from foretune.recommenders.past import Past

# past tasks that all tasks' variance counts as, beside the nearest ones' own (`variance_of_new`)
PRIOR = 3.0


@dataclass(frozen=True, eq=False)
class Ranking:
    """The configurations that `past` knows, scored for one task; arrays are (n,) by their row.

    Attributes:
        past: the past tasks that the scores were learned from.
        scores: higher is better; finite.
        nearest: past task -> weight in the forecast, sums to 1, largest first.
        support: share of past tasks that lie at least as far from the others as the new one does
            (`support_of`).
        supported: whether the past has a say at all.
        predicted: forecast of the best value in the metric's own unit; None where there is none.
        spread: standard deviation of that forecast, in the same unit.
        base: the scores without the images, where `scores` are these and what the images change;
            None where there is no such list behind them.
        counts: past task -> its share in `scores`, or in `base` where there is one, where these are
            a weighted mean over past tasks; sums to 1. None where they are no such mean (a forest,
            a plain regression, chance): then no past run has a share.

    Raises:
        BadInput: scores that are not n finite numbers.
    """

    past: Past
    scores: np.ndarray
    nearest: dict[str, float]
    support: float = 1.0
    supported: bool = True
    predicted: np.ndarray | None = None
    spread: np.ndarray | None = None
    base: np.ndarray | None = None
    counts: dict[str, float] | None = None

    def __post_init__(self) -> None:
        n = len(self.past.config_ids)
        if self.scores.shape != (n,) or not np.isfinite(self.scores).all():
            raise BadInput(
                f"scores must be {n} finite numbers, one a configuration, but are "
                f"{self.scores.shape}"
            )

    @property
    def order(self) -> np.ndarray:
        """Rows, best first, (n,); equal scores keep the pool's order."""
        return np.argsort(-self.scores, kind="stable")

    @property
    def advice(self) -> np.ndarray:
        """Rows in the order to try them, (n,).

        The ranking where the past supports it, else the greedy portfolio.
        """
        return self.order if self.supported else self.past.portfolio()


def variance_of_new(weight: np.ndarray, values: np.ndarray, prior: float = PRIOR) -> float:
    """Variance of a new task's value around the weighted mean of past ones.

    `weight` (T,) sums to 1, `values` are (T,).

    The weighted variance of few tasks is too small twice over: it is measured around their own
    mean, and that mean is uncertain. Both factors are those of n = 1 / sum w^2 equal tasks, (1 +
    1/n) / (1 - 1/n). That the nearest tasks scatter less than all do is believed as far as n of
    them show it: all tasks' variance counts as `prior` tasks more.
    """
    n = 1.0 / float(weight @ weight)
    near = float(weight @ (values - weight @ values) ** 2) / max(1.0 - 1.0 / n, 0.5)
    every = float(values.var(ddof=1)) if len(values) > 1 else near
    return (1.0 + 1.0 / n) * (n * near + prior * every) / (n + prior)


def in_unit(
    past: Past, z: np.ndarray, nearest: Mapping[str, float], doubt: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised scores `z` (n,) as best values and spread in the metric's own unit, (n,) each.

    `doubt` is the standard deviation of `z`.

    A new task's level and range are not in a normalised score; they are taken from the nearest past
    tasks, and how much a further task may differ from those is part of the spread
    (`variance_of_new`). Predictions stay inside what past tasks reached.
    """
    weight = np.array([nearest.get(task, 0.0) for task in past.tasks])
    weight = weight / weight.sum()
    centre, width = past.level
    mean, scale = float(weight @ centre), float(weight @ width)
    forecast = np.clip(mean + scale * z, np.nanmin(past.best), np.nanmax(past.best))
    level, range_ = variance_of_new(weight, centre), variance_of_new(weight, width)
    spread = np.sqrt((scale * np.asarray(doubt)) ** 2 + level + range_ * z**2)
    return past.sign * forecast, np.broadcast_to(spread, z.shape).copy()
