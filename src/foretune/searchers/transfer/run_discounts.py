"""How much runs of another network, size or trainer count for a new study, as one number a setting.

The number at a pair of values is the correlation that `run_surrogate` gives what the two share: 1,
as good as one's own; 0, of no use. Where a setting's theta makes tasks that were held out less
probable than theta = 0 does, the setting makes no difference (1); where leaving its other values'
runs out altogether is better than both, they count 0. A held-out task is forecast from all the
others at once, in closed form: with Lambda = K^-1, what the others leave of task t is
N(Lambda_tt^-1 (Lambda y)_t, Lambda_tt^-1) (Rasmussen and Williams 2006, eq. 5.12, for blocks).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.gaussian.gp import cholesky
from foretune.searchers.transfer.run_surrogate import Laws, RunSurrogate, inverse_of, squared

APART = 1e3  # theta at which runs of another value say nothing
SEED = 0


@dataclass(frozen=True)
class Discount:
    """Runs with `column` = `theirs` count `share` (0 to 1) of those with `mine`."""

    column: str
    mine: Any
    theirs: Any
    share: float

    def __str__(self) -> str:
        mine = f" at {self.mine}" if str(self.mine) else ""  # "": an unknown trainer
        return f"runs at {self.column} {self.theirs} count {self.share:.1f} of yours{mine}"


def held_out_density(surrogate: RunSurrogate, laws: Laws, rows: np.ndarray) -> float:
    """Mean over tasks of `held_out_densities`."""
    return float(np.mean(held_out_densities(surrogate, laws, rows)))


def held_out_densities(surrogate: RunSurrogate, laws: Laws, rows: np.ndarray) -> list[float]:
    """The log probability density of each task's scores given the other tasks', for the runs `rows`,
    tasks in their order.
    """
    Z, task, y = (
        surrogate.stretched(surrogate.X[rows], laws),
        surrogate.task[rows],
        surrogate.y[rows],
    )
    same = task[:, None] == task[None]
    K = (laws.shared + laws.own * same) * np.exp(-squared(Z, Z)) + laws.level * same
    K[np.diag_indices(len(rows))] += laws.noise + 1e-6
    inverse = inverse_of(cholesky(K))
    weights = inverse @ y
    total = []
    for t in np.unique(task):
        own = np.flatnonzero(task == t)
        L = cholesky(inverse[np.ix_(own, own)])
        rest = np.linalg.solve(L, weights[own])
        density = np.log(np.diag(L)).sum() - 0.5 * rest @ rest - 0.5 * len(own) * np.log(2 * np.pi)
        total.append(float(density))
    return total


def discounts(
    surrogate: RunSurrogate, runs: pd.DataFrame, settings: Mapping[str, Any]
) -> list[Discount]:
    """What runs with other values of `settings` count for a study that has these, by setting and
    other value among `runs`, least first; settings of which all runs have the same value are left
    out.

    Raises `BadInput` for a setting that is no column of the runs.
    """
    names = surrogate.columns.names
    rows = surrogate.fit_sample(np.random.default_rng(SEED))
    learned = held_out_density(surrogate, surrogate.laws, rows)
    out = []
    for column, mine in settings.items():
        if column not in runs.columns:
            raise BadInput(
                f"setting {column!r} is no column of the runs; they have "
                f"{', '.join(map(str, runs.columns))}"
            )
        places = [k for k, n in enumerate(names) if n in (column, f"{column} (parts)")]
        if not places:
            continue
        at = {
            theta: held_out_density(surrogate, with_theta(surrogate.laws, places, theta), rows)
            for theta in (0.0, APART)
        }
        if at[0.0] >= max(learned, at[APART]):
            chosen = with_theta(surrogate.laws, places, 0.0)
        else:
            chosen = (
                surrogate.laws
                if learned >= at[APART]
                else with_theta(surrogate.laws, places, APART)
            )
        others = [v for v in pd.unique(runs[column].dropna()) if v != mine]
        frame = pd.DataFrame({column: [mine, *others]})
        Z = surrogate.stretched(surrogate.columns.encode(frame), chosen)
        shares = np.exp(-squared(Z[:1], Z[1:]))[0]
        out += [Discount(column, mine, v, float(s)) for v, s in zip(others, shares, strict=True)]
    return sorted(out, key=lambda d: (d.column, d.share))


def with_theta(laws: Laws, places: list[int], theta: float) -> Laws:
    """The laws with this theta at the columns `places`."""
    changed = laws.theta.copy()
    changed[places] = theta
    return replace(laws, theta=changed)
