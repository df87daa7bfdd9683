"""Does history say to train its favourites fully, or to look at many and go on with the best? Two
plain policies replayed on the past itself.

Each past task in turn is the target, the others its history, and the budget is k full trainings:

- full: the first k of the others' greedy portfolio, each to its last epoch;
- probe: the first p of the others' mean-rank list for m epochs each, then the best of them to the
  end one after another, for the best (p, m) of a small grid.

Where configurations rank alike on all tasks and only the last epochs tell them apart (as in
HyperRec), full trainings win; where tasks differ and curves flatten early (as in LCBench), probing
does. Values are normalized regrets, means over past tasks.
"""

import numpy as np

from foretune.history.ranks import greedy_portfolio, mean_rank, normalized_regret

PROBES = ((3, 5), (5, 3), (8, 3), (12, 2), (20, 5))  # (p configurations, m epochs)
# a searcher that probes by expected improvement ends at about half of what the plain policy does
MARGIN = 0.5


def full_regret(running: np.ndarray, trainings: int) -> float:
    """Mean regret of the portfolio after so many full trainings; `running` (T, n, E) = best value
    so far.
    """
    best = running[:, :, -1]
    regret = normalized_regret(best)
    reached = []
    for t in range(len(best)):
        chosen = greedy_portfolio(np.delete(best, t, axis=0), trainings)
        reached.append(regret[t, chosen].min() if chosen else 1.0)
    return float(np.mean(reached))


def probe_regret(curves: np.ndarray, running: np.ndarray, trainings: int) -> float:
    """Mean regret of probing with the best (p, m) of `PROBES` that leaves half of the budget, after
    `trainings` times E epochs.
    """
    T, n, E = curves.shape
    high, low = running[:, :, -1].max(axis=1), running[:, :, -1].min(axis=1)
    spread = np.where(high > low, high - low, 1.0)
    orders = [
        np.argsort(mean_rank(np.delete(running[:, :, -1], t, axis=0)), kind="stable")
        for t in range(T)
    ]
    regrets = []
    for configs, epochs in PROBES:
        m = min(epochs, E)
        p = min(configs, n, trainings * E // (2 * m))
        if not p:
            continue
        ends = []
        for t, order in enumerate(orders):
            first = order[:p]
            left, value = trainings * E - p * m, running[t, first, m - 1].max()
            for c in first[np.argsort(-curves[t, first, m - 1], kind="stable")]:
                if left <= 0:
                    break
                stop = min(E, m + left)
                value, left = max(value, running[t, c, stop - 1]), left - (stop - m)
            ends.append((high[t] - value) / spread[t])
        regrets.append(float(np.mean(ends)))
    return min(regrets, default=1.0)


def full_trainings_pay(curves: np.ndarray, trainings: int) -> bool:
    """Whether, on past curves (T, n, E) without holes, full trainings end clearly lower than
    probing; False with fewer than 4 tasks.
    """
    if len(curves) < 4:
        return False
    running = np.maximum.accumulate(curves, axis=2)
    return full_regret(running, trainings) < MARGIN * probe_regret(curves, running, trainings)
