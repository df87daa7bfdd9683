"""Past tasks' curves on the configurations of a study, made comparable: one location and scale per
task, holes filled.

Notation: T past tasks, n configurations (the study's pool first, then those that only the past
knows), E epochs of the study. Z[t] = (Y[t] - location[t]) / scale[t]; mean = their average; D[t] =
Z[t] - mean.

Holes (never trained, stopped early, a past of fewer epochs) are filled by conditional means: along
the epochs from what the same curve shows, else from the other configurations of the task through
the configuration kernel. A cell that diverged counts as the task's worst value, an absurdly poor
one (a loss of 1e30) as the worst of its epoch; an absurdly good one is a hole. A configuration that
no task knows gets the kernel average of those known, and `unexplained` says how much of the spread
between configurations is then left open.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from foretune.errors import BadInput

if TYPE_CHECKING:
    from foretune.history.meta_dataset import MetaDataset
    from foretune.study.study import Study

Learned = TypeVar("Learned")

# how far outside of the middle of a task's values, in spreads of that middle, others are believed;
# published tables of accuracies stay within 31
CREDIBLE = 40.0
# likewise of the upper tenth from the upper quartile: no metric spreads so
ABSURD = 1e6
RIDGE = 0.05  # share of a configuration's value that its kernel neighbours do not explain


@dataclass(frozen=True)
class PastCurves:
    """Comparable past curves: `tasks` (T), `Z` (T, n, E), `location` and `scale` (T,), `X` (n, d),
    `unexplained` (n, n).

    `pool` of the n configurations are the study's own. `similarity` (n, n) is the configuration
    kernel, 1 on its diagonal.
    """

    tasks: tuple[str, ...]
    Z: np.ndarray
    location: np.ndarray
    scale: np.ndarray
    X: np.ndarray
    pool: int
    similarity: np.ndarray
    unexplained: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Average curve of each configuration, (n, E)."""
        return np.asarray(self.Z.mean(axis=0))

    @property
    def raw(self) -> np.ndarray:
        """The curves of the pool in the past's own unit, (T, pool, E)."""
        return self.Z[:, : self.pool] * self.scale[:, None, None] + self.location[:, None, None]


_shelves: "WeakKeyDictionary[MetaDataset, dict[Hashable, Any]]" = WeakKeyDictionary()
SHELF = 8  # results kept per past


def learned_from_past(
    study: "Study", key: Hashable, make: "Callable[[PastCurves], Learned]"
) -> Learned:
    """What `make` derives from the study's past curves, kept as long as the past is: the same for
    every study of this past and pool.

    `key` names the method with its options. Raises `BadInput` as `past_curves` does.
    """
    assert study.past is not None
    shelf = _shelves.setdefault(study.past, {})
    place = (key, study.max_epoch, study.X.tobytes(), study.past_ids.tobytes())
    if place not in shelf:
        while len(shelf) >= SHELF:
            del shelf[next(iter(shelf))]
        shelf[place] = make(past_curves(study))
    result: Learned = shelf[place]
    return result


def radial(X1: np.ndarray, X2: np.ndarray, length: float) -> np.ndarray:
    """exp(-|x - x'|^2 / (2 length^2)), (n1, n2)."""
    squares = (X1**2).sum(1)[:, None] + (X2**2).sum(1)[None] - 2 * X1 @ X2.T
    return np.asarray(np.exp(-np.maximum(squares, 0.0) / (2 * length**2)))


def length_scale(X: np.ndarray) -> float:
    """Half of the median distance between configurations; 1 if there is none."""
    some = X[:: max(1, len(X) // 200)]
    squares = (some**2).sum(1)[:, None] + (some**2).sum(1)[None] - 2 * some @ some.T
    apart = squares[squares > 1e-12]
    return 0.5 * float(np.sqrt(np.median(apart))) if len(apart) else 1.0


def epoch_correlation(
    epochs1: np.ndarray, epochs2: np.ndarray, persistent: float, length: float
) -> np.ndarray:
    """A share that lasts over all epochs and one that wanders (Ornstein-Uhlenbeck in log(1 +
    epoch)); epochs count from 1.
    """
    apart = np.abs(np.log1p(epochs1)[:, None] - np.log1p(epochs2)[None])
    return np.asarray(persistent + (1 - persistent) * np.exp(-apart / length))


def past_curves(study: "Study") -> PastCurves:
    """The past of a study. Raises `BadInput` if none of its past tasks has two finite values."""
    past = study.past
    assert past is not None
    own, E = len(study.configs), study.max_epoch
    same = past.space.dims == study.space.dims and past.space.names == study.space.names
    extra = np.setdiff1d(np.arange(len(past)), study.past_ids) if same else np.empty(0, dtype=int)
    rows = np.concatenate([study.past_ids, extra])
    X = np.vstack([study.X, past.X[extra]]) if len(extra) else study.X
    Y = np.full((len(past.tasks), len(rows), E), np.nan)
    shared, known = min(E, past.max_epoch), rows >= 0
    for k, task in enumerate(past.tasks):
        seed = past.seeds(task)[0] if past.seeds(task) else 0
        curves, failed = credible(past.curves(task, seed)), past.failed(task, seed)
        if np.isfinite(curves).any():
            dead = np.maximum.accumulate(failed, axis=1)
            curves = np.where(dead & np.isnan(curves), np.nanmin(curves), curves)
        Y[k, known, :shared] = curves[rows[known], :shared]
    usable = np.isfinite(Y).sum(axis=(1, 2)) > 1
    if not usable.any():
        raise BadInput(
            f"none of the {len(usable)} past task(s) has two finite values in the first "
            f"{shared} epochs: there is nothing to learn from"
        )
    tasks = tuple(t for t, ok in zip(past.tasks, usable, strict=True) if ok)
    return comparable(Y[usable], X, tasks, own)


def credible(values: np.ndarray) -> np.ndarray:
    """One task's `values` (n, E), higher being better, NaN where unknown, without absurd ones.

    Absurd is what lies more than `CREDIBLE` times the range from the lower quartile to the upper
    tenth beyond these two (to the upper quartile, where the upper tenth is absurd itself): if poor, it becomes the worst of the others at its epoch (of all if
    there is none), if good, NaN. Where that range is empty, the distinct values' own decides; no
    value of a task with two of them is absurd.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return values
    low, most, high = np.quantile(finite, (0.25, 0.75, 0.9))
    if high - most > ABSURD * (most - low) > 0:  # more than a tenth of the values are absurd
        high = most
    if not high > low:
        distinct = np.unique(finite)
        low = np.quantile(distinct, 0.25, method="higher")
        high = np.quantile(distinct, 0.9, method="lower")
    reach = CREDIBLE * (high - low)
    if not reach > 0:
        return values
    believed = (values >= low - reach) & (values <= high + reach)
    least = np.where(believed, values, np.inf).min(axis=0)
    least = np.where(np.isfinite(least), least, values[believed].min())
    out = np.where(values < low - reach, least, values)
    return np.where(out > high + reach, np.nan, out)


def comparable(Y: np.ndarray, X: np.ndarray, tasks: tuple[str, ...], pool: int) -> PastCurves:
    """Bring curves `Y` (T, n, E), NaN where unknown, to one location and scale and fill their
    holes.
    """
    similarity = radial(X, X, length_scale(X))
    seen = np.isfinite(Y)
    location, scale = standardise(Y, seen)
    Z = (Y - location[:, None, None]) / scale[:, None, None]
    known = seen.any(axis=(0, 2))
    unexplained = np.zeros_like(similarity)
    if not seen.all():
        Z = filled(Z, seen, similarity)
    if not known.all():
        new = ~known
        A = np.linalg.solve(
            similarity[np.ix_(known, known)] + RIDGE * np.eye(known.sum()),
            similarity[np.ix_(known, new)],
        )
        unexplained[np.ix_(new, new)] = (
            similarity[np.ix_(new, new)] - similarity[np.ix_(new, known)] @ A
        )
        unexplained[new, new] += RIDGE
    return PastCurves(tasks, Z, location, scale, X, pool, similarity, unexplained)


def standardise(Y: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale (T,) of each task: the moments of its cells, compared with those of the
    same cells on average.

    For full tables this is mean and standard deviation; a task of which only some cells are known
    is matched to the mean of the others there, so that a past of good configurations only does not
    look like a hard task.
    """
    T = len(Y)
    location = np.array([np.nanmean(y) for y in Y])
    scale = np.array([max(np.nanstd(y), 1e-9) for y in Y])
    if seen.all():
        return location, scale
    for _ in range(3):
        Z = (Y - location[:, None, None]) / scale[:, None, None]
        count = seen.sum(axis=0)
        mean = np.where(count > 0, np.nansum(Z, axis=0) / np.maximum(count, 1), 0.0)
        spread = max(float(mean[count > 0].std()), 1e-9)
        mean = (mean - mean[count > 0].mean()) / spread
        for t in range(T):
            y, m = Y[t][seen[t]], mean[seen[t]]
            if len(y) >= 10 and m.std() > 0.1:
                scale[t] = max(y.std() / m.std(), 1e-9)
            location[t] = y.mean() - scale[t] * m.mean()
    return location, scale


def filled(Z: np.ndarray, seen: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """`Z` (T, n, E) with its holes filled by conditional means; the mean over tasks first, then
    each task around it.
    """
    count = seen.sum(axis=0)
    mean = np.where(count > 0, np.nansum(Z, axis=0) / np.maximum(count, 1), np.nan)
    per_epoch = average_by_epoch(mean)
    mean = per_epoch + completed((mean - per_epoch)[None], (count > 0)[None], similarity)[0]
    known = seen.any(axis=(0, 2))
    if not known.all():
        # An average, not the conditional mean: that one extrapolates. Where the past knows only low
        # learning rates, say, it makes the highest
        # the best of all, and a search would spend itself on what nobody has tried.
        weight = similarity[np.ix_(~known, known)] + 1e-12  # far from all of them: their average
        mean[~known] = weight @ mean[known] / weight.sum(axis=1, keepdims=True)
    return np.asarray(mean + completed(Z - mean, seen, similarity))


def average_by_epoch(mean: np.ndarray) -> np.ndarray:
    """The average curve (E,); epochs that nobody reached keep the last value known."""
    count = np.isfinite(mean).sum(axis=0)
    curve = np.where(count > 0, np.nansum(mean, axis=0) / np.maximum(count, 1), np.nan)
    reached = np.flatnonzero(count > 0)
    return np.asarray(np.interp(np.arange(len(curve)), reached, curve[reached]))


def completed(R: np.ndarray, seen: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Zero-mean deviations `R` (T, n, E) with unseen cells at their conditional means."""
    T, _, E = R.shape
    out = np.where(seen, R, 0.0)
    epochs = np.arange(1, E + 1)
    Q = epoch_correlation(epochs, epochs, 0.5, 1.0)
    curves, masks = out.reshape(-1, E), seen.reshape(-1, E)
    patterns, member = np.unique(masks, axis=0, return_inverse=True)
    for k, have in enumerate(patterns):
        if have.any() and not have.all():
            rows = np.flatnonzero(member.ravel() == k)
            weight = np.linalg.solve(
                Q[np.ix_(have, have)] + 1e-3 * np.eye(have.sum()), Q[np.ix_(have, ~have)]
            )
            curves[np.ix_(rows, ~have)] = curves[np.ix_(rows, have)] @ weight
    out = curves.reshape(R.shape)
    for t in range(T):
        known = seen[t].any(axis=1)
        if known.any() and not known.all():
            gram = similarity[np.ix_(known, known)] + RIDGE * np.eye(known.sum())
            out[t, ~known] = similarity[np.ix_(~known, known)] @ np.linalg.solve(
                gram, out[t, known]
            )
    return out
