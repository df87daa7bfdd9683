"""What going on with a study promises, and what it costs."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prospect:
    """The training that is most worth its cost: the `gain` expected of it over the best value so far,
    the `epochs` that it takes, and the gain less its cost.
    """

    gain: float
    epochs: int
    net: float


def best_prospect(
    gain: np.ndarray, epochs: np.ndarray, possible: np.ndarray, price: float
) -> Prospect | None:
    """The best of trainings of `epochs` (n, G) more that are expected to gain `gain` (n, G), at a
    `price` of an epoch; None where none is `possible`, (n, G) bool.
    """
    if not possible.any():
        return None
    net = np.where(possible, gain - price * epochs, -np.inf)
    best = np.unravel_index(int(net.argmax()), net.shape)
    return Prospect(float(gain[best]), int(epochs[best]), float(net[best]))
