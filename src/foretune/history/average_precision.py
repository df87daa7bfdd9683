"""How good a ranking of configurations is, judged by the values that the configurations reached.

Truth: the K configurations with the highest value; equal values keep the pool's order, in the truth
and in the ranking alike. `scores` and `values` are (n,), higher is better; a NaN value (diverged,
unknown) is never among the best.
"""

import numpy as np

from foretune.errors import BadInput


def ordered(scores: np.ndarray) -> np.ndarray:
    """Rows by score, best first, (n,) int; NaN last, equal scores in the pool's order."""
    return np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")


def hits(scores: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Whether each of the top k predicted is among the k truly best, (k,) bool.

    Raises `BadInput` unless 1 <= k <= n and shapes agree.
    """
    if scores.shape != values.shape or scores.ndim != 1:
        raise BadInput(
            f"scores {scores.shape} and values {values.shape} must be vectors of one length"
        )
    if not 1 <= k <= len(scores):
        raise BadInput(f"k={k} must be from 1 to the number of configurations, {len(scores)}")
    return np.isin(ordered(scores)[:k], ordered(values)[:k])


def ap_at_k(scores: np.ndarray, values: np.ndarray, k: int = 10) -> float:
    """AP@K: mean over the top K predicted of the precision at each hit (HyperSTAR, section 4).

    1 if the top K are the K best, in any order.
    """
    hit = hits(scores, values, k)
    return float((np.cumsum(hit) / np.arange(1, k + 1) * hit).sum() / k)


def tie_averaged_ap_at_k(scores: np.ndarray, values: np.ndarray, k: int = 10) -> float:
    """AP@K, its mean over all ways to break ties at the K-th best value, where `ap_at_k` takes the
    pool's order: m of t configurations that share this value belong to the K best, each as likely.
    """
    hits(scores, values, k)  # checks the arguments
    known = np.where(np.isnan(values), -np.inf, values)
    last = np.sort(known)[-k]
    tied = (known == last)[ordered(scores)[:k]]
    t, m = int((known == last).sum()), k - int((known > last).sum())
    one = np.where(tied, m / t, (known > last)[ordered(scores)[:k]].astype(float))
    both = np.outer(one, one)  # that i and j are both among the best
    both[np.ix_(tied, tied)] = m * (m - 1) / (t * (t - 1)) if t > 1 else 1.0
    before = np.tril(both, -1).sum(axis=1)
    return float(((one + before) / np.arange(1, k + 1)).sum() / k)


def precision_at_k(scores: np.ndarray, values: np.ndarray, k: int = 10) -> float:
    """Share of the top K predicted that are among the K best."""
    return float(hits(scores, values, k).mean())


def regret_after(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Normalized regret of the best after the first 1, 2, ... n configurations, (n,).

    That is (best of all - best so far) / (best of all - worst of all).

    A configuration without value counts as the worst; where all values are equal, regret is 0.
    """
    high, low = np.nanmax(values), np.nanmin(values)
    found = np.maximum.accumulate(np.where(np.isnan(values), low, values)[ordered(scores)])
    return (high - found) / (high - low if high > low else 1.0)


def top_regret(scores: np.ndarray, values: np.ndarray) -> float:
    """Normalized regret of the first recommendation."""
    return float(regret_after(scores, values)[0])


def similarity(values: np.ndarray, k: int = 10) -> np.ndarray:
    """r_ij of HyperSTAR's equation (2), (T, T), 1 on the diagonal.

    r_ij is AP@K of task i's true order judged by task j's values.
    """
    k = min(k, values.shape[1])
    return np.array([[ap_at_k(a, b, k) for b in values] for a in values])
