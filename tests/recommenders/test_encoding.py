"""Configurations as vectors."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.encoding import MOST_VALUES, encoded, one_hot

CONFIGS = [
    {"rate": 0.1, "opt": "sgd", "momentum": 0.9},
    {"rate": 0.01, "opt": "adam"},
    {"rate": 0.1, "opt": "adam"},
]


def test_one_column_per_value_inactive_included() -> None:
    found = one_hot(CONFIGS)
    assert found.tolist() == [
        [0, 1, 0, 1, 0, 1],  # momentum inactive, 0.9; opt adam, sgd; rate 0.01, 0.1
        [1, 0, 1, 0, 1, 0],
        [1, 0, 1, 0, 0, 1],
    ]
    assert (found.sum(axis=1) == 3).all()
    assert np.array_equal(found[1, 2:] != found[2, 2:], [False, False, True, True])


def test_a_number_of_many_values_is_cut_into_quantiles() -> None:
    found = one_hot([{"x": v} for v in np.linspace(0, 1, 64)])
    assert found.shape == (64, MOST_VALUES)
    assert (found.sum(axis=0) == 4).all()


def test_encodings_of_a_pool(meta: MetaDataset) -> None:
    numeric = encoded(meta, "numeric")
    assert np.allclose(numeric, 2 * meta.X - 1)
    assert encoded(meta, "both").shape[1] == encoded(meta, "one-hot").shape[1] + numeric.shape[1]
    with pytest.raises(BadInput, match="encoding='words' must be one of one-hot, numeric, both"):
        encoded(meta, "words")
