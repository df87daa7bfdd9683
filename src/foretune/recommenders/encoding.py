"""Configurations as vectors: one-hot, as in HyperSTAR, or the space's own numeric encoding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset

ENCODINGS = ("one-hot", "numeric", "both")
MOST_VALUES = 16  # a number with more values than this in the pool is cut into as many quantiles


def one_hot(configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """One column per hyperparameter and value that occurs, inactive being one, (n, columns)."""
    columns = []
    for name in sorted({key for config in configs for key in config}):
        values = [config.get(name) for config in configs]
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(set(numbers)) > MOST_VALUES:
            edges = np.quantile(numbers, np.arange(1, MOST_VALUES) / MOST_VALUES)
            values = [
                None if v is None else int(np.searchsorted(edges, v, side="right")) for v in values
            ]
        found = sorted(
            set(values), key=lambda v: (str(type(v)), v if isinstance(v, (int, float)) else str(v))
        )
        columns += [[float(v == option) for v in values] for option in found]
    return np.array(columns, dtype=np.float64).T.reshape(len(configs), -1)


def encoded(meta: MetaDataset, encoding: str) -> np.ndarray:
    """The pool's configurations as vectors (n, c): "one-hot", "numeric" (`Space.encode`) or both.

    Raises `BadInput` for another word.
    """
    if encoding not in ENCODINGS:
        raise BadInput(f"encoding={encoding!r} must be one of {', '.join(ENCODINGS)}")
    parts = []
    if encoding in ("one-hot", "both"):
        parts.append(one_hot(meta.configs))
    if encoding in ("numeric", "both"):
        parts.append(2 * meta.X - 1)
    return np.concatenate(parts, axis=1)
