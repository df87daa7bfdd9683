"""A pool of configurations with known curves, for any optimizer.

What it proposes is trained, and paid, as foretune's replays are.

A proposal is a point of the unit cube; it stands for the nearest configuration of the pool. An
epoch that was paid before is free, so a configuration that is asked for again goes on from its
checkpoint, and asking for fewer epochs than it has costs nothing. Nothing but numpy is needed here:
the file runs in the environment of each peer.
"""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

MOST_FREE = 2000  # proposals in a row that cost nothing, before a run is given up


class Spent(Exception):
    """The budget is used up."""


class Pool:
    """`x` (n, d) in the unit cube and `curves` (n, E), higher is better, from a JSON file.

    Keeps the trace of a run.
    """

    def __init__(self, path: str, seed: int, budget: int):
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        self.x, self.curves = np.array(data["x"]), np.array(data["curves"], dtype=float)
        self.seed = seed
        self.budget = budget
        self.epochs = self.curves.shape[1]
        self.dims = self.x.shape[1]
        self.reached = np.zeros(len(self.x), dtype=int)
        self.spent, self.free, self.best = 0, 0, -np.inf
        self.trace: list[tuple[int, float, float]] = []
        self.asked = time.perf_counter()

    def names(self) -> list[str]:
        """Of the cube's columns."""
        return [f"x{k}" for k in range(self.dims)]

    def nearest(self, point: "np.ndarray | dict[str, float]") -> int:
        """The pool's configuration that stands for a point."""
        values = (
            [float(point[name]) for name in self.names()]
            if isinstance(point, dict)
            else np.asarray(point)
        )
        return int(((self.x - values) ** 2).sum(axis=1).argmin())

    def train(self, i: int, epochs: float) -> float:
        """Train configuration i to `epochs`.

        Returns its last value there (not a number is the worst of the pool). Raises `Spent` with
        the budget.
        """
        now = time.perf_counter()
        to = int(min(self.epochs, max(1, round(epochs))))
        until = int(min(to, self.reached[i] + self.budget - self.spent))
        paid = max(0, until - self.reached[i])
        self.free = 0 if paid else self.free + 1
        if paid:
            seen = self.curves[i, self.reached[i] : until]
            self.best = max(self.best, np.nanmax(seen, initial=-np.inf))
            self.reached[i] = until
            self.spent += int(paid)
            self.trace.append((self.spent, float(self.best), now - self.asked))
        if self.spent >= self.budget or self.free > MOST_FREE:
            raise Spent
        value = self.curves[i, to - 1]
        self.asked = time.perf_counter()
        return float(value) if np.isfinite(value) else float(np.nanmin(self.curves))


def main(run) -> None:
    """Run the peer: `python PEER.py POOL.json SEED BUDGET`; print its trace as JSON last."""
    pool = Pool(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    with suppress(Spent):
        run(pool)
    print("\n" + json.dumps(pool.trace))
