"""Acquisition functions in closed form, in numpy; higher is better throughout.

Notation: a candidate's prediction is normal with mean mu and standard deviation sigma, y* =
incumbent, z = (mu - y*) / sigma, phi and Phi = the standard normal density and distribution, Y (n,
E) = observed curves (NaN where not observed), b = the budget (epoch, from 1) that a candidate would
reach next.

| function                     | value                              | source                   |
|------------------------------|------------------------------------|--------------------------|
| `expected_improvement`       | sigma (phi(z) + z Phi(z))          | Jones et al. 1998        |
| `log_expected_improvement`   | its logarithm, underflow included  | Ament et al. 2023, eq. 9 |
| `probability_of_improvement` | Phi(z)                             | Kushner 1964             |
| `budget_incumbent`           | best seen at b if any, else of all | DyHPO, eq. 11            |
| `multi_fidelity_ei`          | log EI at b against b's incumbent  | DyHPO, eq. 9 to 11       |
| `ucb`                        | mu + beta sigma                    | Srinivas et al. 2010     |
| `max_trial_ucb`              | largest mu + eta sigma ahead       | AT2, section 3.4         |

Jones et al., J. Glob. Optim. 1998; Ament et al., NeurIPS 2023; Srinivas et al., ICML 2010.

A prediction with sigma = 0 is certain: its expected improvement is max(mu - y*, 0). All arrays
broadcast.
"""

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

SQRT_2PI = np.sqrt(2 * np.pi)
SQRT_HALF_PI = np.sqrt(np.pi / 2)


def expected_improvement(mean: np.ndarray, std: np.ndarray, best: np.ndarray | float) -> np.ndarray:
    """E max(f - best, 0) for f ~ N(mean, std^2); never negative, any shape."""
    gain = np.asarray(mean, dtype=float) - best
    sigma = np.broadcast_to(np.asarray(std, dtype=float), gain.shape)
    certain = np.maximum(gain, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = gain / sigma
        value = sigma * (np.exp(-0.5 * z * z) / SQRT_2PI + z * ndtr(z))
    return np.where(sigma > 0, np.maximum(value, 0.0), certain)


def log_expected_improvement(
    mean: np.ndarray, std: np.ndarray, best: np.ndarray | float
) -> np.ndarray:
    """log E max(f - best, 0), finite wherever std > 0: candidates keep an order where the plain
    value is 0 for all of them.

    For z <= -1, log(phi + z Phi) = -z^2/2 - log sqrt(2 pi) + log(1 + z sqrt(pi/2) erfcx(-z/sqrt
    2)), and for z < -1e4 its limit -z^2/2 - log sqrt(2 pi) - 2 log |z|. Where std = 0 it is log
    max(mean - best, 0).
    """
    gain = np.asarray(mean, dtype=float) - best
    sigma = np.broadcast_to(np.asarray(std, dtype=float), gain.shape)
    positive = sigma > 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = np.where(positive, gain / np.where(positive, sigma, 1.0), 0.0)
        high = np.log(np.exp(-0.5 * z * z) / SQRT_2PI + z * ndtr(z))
        low = (
            -0.5 * z * z
            - np.log(SQRT_2PI)
            + np.log1p(z * SQRT_HALF_PI * erfcx(-np.minimum(z, -1.0) / np.sqrt(2)))
        )
        limit = -0.5 * z * z - np.log(SQRT_2PI) - 2 * np.log(np.abs(z))
        value = np.where(z > -1, high, np.where(z > -1e4, low, limit)) + np.log(
            np.where(positive, sigma, 1.0)
        )
        return np.where(positive, value, np.log(np.maximum(gain, 0.0)))


def probability_of_improvement(
    mean: np.ndarray, std: np.ndarray, best: np.ndarray | float
) -> np.ndarray:
    """P(f > best) for f ~ N(mean, std^2); 0 or 1 where std = 0."""
    gain = np.asarray(mean, dtype=float) - best
    sigma = np.broadcast_to(np.asarray(std, dtype=float), gain.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(
            sigma > 0,
            np.exp(log_ndtr(gain / np.where(sigma > 0, sigma, 1.0))),
            (gain > 0).astype(float),
        )


def budget_incumbent(curves: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """DyHPO's incumbent of each budget in `budgets` (m,): the best value observed at that epoch,
    else the best of all; -inf before any.

    `curves` is Y (n, E); budgets count from 1.
    """
    seen = np.where(np.isnan(curves), -np.inf, curves)
    at = seen.max(axis=0, initial=-np.inf)  # (E,)
    return np.where(np.isfinite(at), at, at.max(initial=-np.inf))[
        np.asarray(budgets, dtype=int) - 1
    ]


def multi_fidelity_ei(
    mean: np.ndarray, std: np.ndarray, budgets: np.ndarray, curves: np.ndarray
) -> np.ndarray:
    """log EI_MF of candidates with predictions (m,) for the budgets that each would reach next; 0
    for all before the first observation.
    """
    best = budget_incumbent(curves, budgets)
    if not np.isfinite(best).any():
        return np.zeros(np.shape(mean))
    return log_expected_improvement(mean, std, best)


def ucb(mean: np.ndarray, std: np.ndarray, beta: float) -> np.ndarray:
    """mean + beta std."""
    return np.asarray(mean) + beta * np.asarray(std)


def max_trial_ucb(
    mean: np.ndarray, std: np.ndarray, epoch: np.ndarray, eta: float = 0.25
) -> np.ndarray:
    """The upper confidence bound of a trial's best epoch after `epoch` (n,): predictions (n, E)
    give (n,), -inf where none is left. AT2 takes eta = 0.25.
    """
    ahead = np.arange(mean.shape[1]) >= epoch[:, None]
    return np.where(ahead, ucb(mean, std, eta), -np.inf).max(axis=1)


def pick(utility: np.ndarray, rng: np.random.Generator, tolerance: float = 1e-12) -> int:
    """The index of the highest utility, ties broken at random: identical candidates must not all
    fall to the first.

    NaN counts as lowest.
    """
    value = np.where(np.isnan(utility), -np.inf, utility)
    top = value.max()
    if not np.isfinite(top):
        return (
            int(rng.integers(len(value)))
            if top == -np.inf
            else int(rng.choice(np.flatnonzero(value == top)))
        )
    return int(rng.choice(np.flatnonzero(value >= top - tolerance * max(1.0, abs(top)))))
