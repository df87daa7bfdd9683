"""How long epochs take: what was expected of each configuration, corrected by what a study saw.

Notation: n configurations, of which some have told what their epochs took.

| array      | shape | meaning                                                                |
|------------|-------|------------------------------------------------------------------------|
| `expected` | (n,)  | log seconds of an epoch before anything was seen                       |
| `first`    | (n,)  | the same of a trial's early epochs, in which what is kept is made      |
| `ratio`    | (k,)  | log of the seconds seen over those expected, mean of a trial's epochs  |
| `log`      | (n,)  | posterior mean of the log seconds of an epoch, `early` of an early one |
| `doubt`    | (n,)  | its standard deviation                                                 |
| `final`    | (n, 2) | seconds of an epoch of the final training: in the long run, early     |
| `count`    | (n,)  | how many epochs are early ones                                         |

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
NOISE = 0.3  # ... of an epoch, on a machine that does other things too ...
# ... and of an early one, as a share of the log of how much dearer than a later one it is: another
# trial may have made what is kept. One that took longer than expected by as much has made it itself
EARLY_NOISE = 0.5
PARALLEL = 0.85  # share of the clock that a worker trains in, before any is seen
TRUST = 10.0  # seconds of the clock that this is worth


@dataclass(frozen=True)
class Costs:
    """What is known of costs before a study with a time budget trains anything.

    `expected` says the seconds of an epoch of a configuration in the long run, and of each of its
    first epochs, of which `early` says how many there are (None: nothing is known). `after` are
    seconds of the same kind that the end of the study needs, when the search is over, and `fixed`
    those that do not depend on what is trained. `final` says how many times as long an epoch of the
    final training takes, with its many images, as one of the search, in the long run and early
    (None: there is no final training). `alone` is how many times as long an epoch takes alone as
    beside the other workers of the search. `workers` train at the same time; they `break_off` what
    is under way when time is up, or have to be waited for.
    """

    expected: Callable[[Config], tuple[float, float]] | None = None
    early: Callable[[Config], int] = lambda config: 1
    after: float = 0.0
    fixed: float = 0.0
    final: Callable[[Config], tuple[float, float]] | None = None
    workers: int = 1
    break_off: bool = True
    alone: float = 1.0

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
    """Seconds of an epoch of each configuration (`log`, `early`, `doubt`: (n,)), of which the
    first `count` (n,) are early ones; `scale` is the factor that this machine puts on all costs,
    `parallel` how many of these seconds pass in one of the clock. `timed` is whether any epoch has
    told its seconds. `final` is 0 where no final training follows.
    """

    log: np.ndarray
    early: np.ndarray
    doubt: np.ndarray
    scale: float
    parallel: float
    timed: bool
    final: np.ndarray
    count: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """Of an epoch, (n,)."""
        return np.asarray(np.exp(self.log))

    def final_seconds(self, epochs: np.ndarray) -> np.ndarray:
        """Of a final training of so many epochs, (n,)."""
        (later, first), early = self.final.T, np.minimum(epochs, self.count)
        return np.asarray(early * first + (epochs - early) * later)

    def reach(
        self,
        epochs: np.ndarray,
        seconds: float | np.ndarray,
        doubts: float,
        final: bool = False,
    ) -> np.ndarray:
        """Epochs that end in `seconds`, (n,) int, from the `epochs` that are done; `doubts`
        standard deviations above what is expected, or below it. With `final`, each epoch together
        with what it adds to the final training.
        """
        factor = np.exp(doubts * self.doubt)
        later, first = np.exp(self.log) * factor, np.exp(self.early) * factor
        if final:
            later, first = later + self.final[:, 0], first + self.final[:, 1]
        ahead = np.maximum(self.count - epochs, 0)
        short = np.minimum(ahead, np.maximum(seconds, 0.0) / first)
        rest = np.maximum(seconds - ahead * first, 0.0) / later
        return np.floor(short + rest).clip(max=1e6).astype(int)


def pace_of(
    costs: Costs,
    configs: Sequence[Config],
    X: np.ndarray,
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
    active: float,
) -> Pace:
    """The pace of a study, `active` seconds of the clock after its first epoch began."""
    n = len(configs)
    expected, first = np.zeros(n), np.zeros(n)
    count = np.array([costs.early(config) for config in configs], dtype=int)
    if costs.expected is not None:
        both = np.log([costs.expected(config) for config in configs]).reshape(n, 2)
        expected, first = both[:, 0], both[:, 1]
    final = np.zeros((n, 2))
    if costs.final is not None:
        final = np.array([costs.final(config) for config in configs]).reshape(n, 2) * costs.alone
    machine = costs.machine_doubt**2
    own = costs.doubt**2 + ALONE**2
    seen = {i: _seen(told, expected[i], first[i], count[i]) for i, told in rows.items()}
    k = np.array(sorted(i for i, (_, weight) in seen.items() if weight > 0), dtype=int)
    if not len(k):
        doubt = np.full(n, math.sqrt(machine + own))
        final = final * np.exp([expected, first]).T
        return Pace(expected, first, doubt, 1.0, PARALLEL * costs.workers, False, final, count)
    ratio = np.array([seen[int(i)][0] for i in k])
    noise = np.array([1 / seen[int(i)][1] for i in k])
    shared = costs.doubt**2 * _alike(X, X[k]) + machine
    shared[k, np.arange(len(k))] += ALONE**2
    inside = np.linalg.inv(shared[k] + np.diag(noise))
    weights = shared @ inside
    shift = weights @ ratio
    variance = machine + own - np.einsum("nk,nk->n", weights, shared)
    scale = math.exp(machine * float(inside.sum(axis=0) @ ratio))
    log = expected + shift
    done = sum(math.exp(log[i]) * sum(row["epoch"] > 0 for row in rows[int(i)]) for i in k)
    parallel = (done + TRUST * PARALLEL * costs.workers) / (max(active, 0.0) + TRUST)
    final = final * np.exp([log, first + shift]).T
    doubt = np.sqrt(np.maximum(variance, 0))
    return Pace(log, first + shift, doubt, scale, parallel, True, final, count)


def _seen(
    rows: Sequence[Mapping[str, Any]], expected: float, first: float, early: int
) -> tuple[float, float]:
    """The mean of a trial's log ratios, weighted by how sure each epoch is, and its precision."""
    total = weight = 0.0
    for row in rows:
        if (seconds := seconds_of(row)) is not None:
            is_early = row["epoch"] <= early
            ratio = math.log(seconds) - (first if is_early else expected)
            kept = max(0.0, first - expected - max(0.0, ratio)) if is_early else 0.0
            w = 1 / (NOISE**2 + (EARLY_NOISE * kept) ** 2)
            total += w * ratio
            weight += w
    return (total / weight if weight else 0.0), weight


def _alike(X: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much the costs of configurations go together, (n, k) from 0 to 1."""
    apart = ((X[:, None, :] - others[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-apart / (2 * LENGTH**2 * max(1, X.shape[1]))))


def seconds_of(row: Mapping[str, Any]) -> float | None:
    """What an epoch took, None where its row does not say, or is not of an epoch."""
    seconds = row.get("seconds")
    timed = isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds > 0
    return float(seconds) if timed and row["epoch"] > 0 else None  # type: ignore[arg-type]
