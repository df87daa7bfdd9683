"""How long epochs take: what was expected of each configuration, corrected by what a study saw.

Notation: n configurations, of which some have told what their epochs took.

| array      | shape | meaning                                                                |
|------------|-------|------------------------------------------------------------------------|
| `expected` | (n,)  | log seconds of an epoch before anything was seen                       |
| `ratio`    | (n,)  | log of the seconds seen (each trial's median) over those expected      |
| `log`      | (n,)  | posterior mean of the log seconds of an epoch                          |
| `doubt`    | (n,)  | its standard deviation                                                 |

`ratio` is a Gaussian process: what this machine does to all of them, what it does to configurations
like this one, and what is of this one alone. With k trials that were timed it costs k^3 + n k.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.space.space import Config

LENGTH = 0.5  # in encoded hyperparameters: how far off a configuration's cost says something
ALONE = 0.15  # standard deviations of the log: of what is a configuration's own ...
NOISE = 0.3  # ... and of an epoch, on a machine that does other things too
PARALLEL = 0.85  # share of the clock that a worker trains in, before any is seen
TRUST = 10.0  # seconds of the clock that this is worth


@dataclass(frozen=True)
class Costs:
    """What is known of costs before a study with a time budget trains anything.

    `expected` says the seconds of an epoch of a configuration (None: nothing is known). `after` are
    seconds of the same kind that the end of the study needs, when the search is over, and `fixed`
    those that do not depend on what is trained. `workers` train at the same time.
    """

    expected: Callable[[Config], float] | None = None
    after: float = 0.0
    fixed: float = 0.0
    workers: int = 1

    @property
    def machine_doubt(self) -> float:
        """Standard deviation of the log of what a machine does to all costs."""
        return 3.0 if self.expected is None else 1.0

    @property
    def doubt(self) -> float:
        """The same, of what it does to configurations of one kind and not to others."""
        return 0.7 if self.expected is None else 0.3


@dataclass(frozen=True)
class Pace:
    """Seconds of an epoch of each configuration (`log`, `doubt`: (n,)); `scale` is the factor that
    this machine puts on all costs, `parallel` how many of these seconds pass in one of the clock.
    `timed` is whether any epoch has told its seconds.
    """

    log: np.ndarray
    doubt: np.ndarray
    scale: float
    parallel: float
    timed: bool

    @property
    def seconds(self) -> np.ndarray:
        """Of an epoch, (n,)."""
        return np.asarray(np.exp(self.log))

    @property
    def careful(self) -> np.ndarray:
        """What an epoch will hardly take longer than, (n,)."""
        return np.asarray(np.exp(self.log + self.doubt))


def pace_of(
    costs: Costs,
    configs: Sequence[Config],
    X: np.ndarray,
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
    active: float,
) -> Pace:
    """The pace of a study, `active` seconds of the clock after its first epoch began."""
    n = len(configs)
    expected = np.zeros(n)
    if costs.expected is not None:
        expected = np.log([max(costs.expected(config), 1e-6) for config in configs])
    times = {i: [t for row in told if (t := seconds_of(row))] for i, told in rows.items()}
    k = np.array(sorted(i for i, told in times.items() if told), dtype=int)
    machine = costs.machine_doubt**2
    own = costs.doubt**2 + ALONE**2
    if not len(k):
        doubt = np.full(n, math.sqrt(machine + own))
        return Pace(expected, doubt, 1.0, PARALLEL * costs.workers, False)
    ratio = np.array([math.log(float(np.median(times[int(i)]))) for i in k]) - expected[k]
    noise = np.array([NOISE**2 / len(times[int(i)]) for i in k])
    alike = costs.doubt**2 * _alike(X, X[k])
    shared = alike + machine
    shared[k, np.arange(len(k))] += ALONE**2
    inside = np.linalg.inv(shared[k] + np.diag(noise))
    weights = shared @ inside
    log = expected + weights @ ratio
    variance = machine + own - np.einsum("nk,nk->n", weights, shared)
    scale = math.exp(machine * float(inside.sum(axis=0) @ ratio))
    epochs = np.array([len(times[int(i)]) for i in k])
    done = float(epochs @ np.exp(log[k]))
    parallel = (done + TRUST * PARALLEL * costs.workers) / (max(active, 0.0) + TRUST)
    return Pace(log, np.sqrt(np.maximum(variance, 0.0)), scale, parallel, True)


def _alike(X: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much the costs of configurations go together, (n, k) from 0 to 1."""
    apart = ((X[:, None, :] - others[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-apart / (2 * LENGTH**2 * max(1, X.shape[1]))))


def seconds_of(row: Mapping[str, Any]) -> float | None:
    """What an epoch took, None where its row does not say, or is not of an epoch."""
    seconds = row.get("seconds")
    timed = isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds > 0
    return float(seconds) if timed and row["epoch"] > 0 else None  # type: ignore[arg-type]
