"""The unpickler reads what the authors publish and runs nothing."""

import collections
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.stores.plain_pickle import load, read


class Bomb:
    def __init__(self, marker: str):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_containers_and_arrays_come_back_as_they_were():
    values = collections.defaultdict(
        list,
        {
            0: {
                "a": {
                    3: np.array([0.5, 0.25]),
                    4: np.arange(6, dtype=">i4").reshape(2, 3),
                },
                "b": (1, True, None),
            }
        },
    )
    out = load(io.BytesIO(pickle.dumps(values)), "x")
    assert type(out) is dict and list(out) == [0]
    np.testing.assert_array_equal(out[0]["a"][3], [0.5, 0.25])
    np.testing.assert_array_equal(out[0]["a"][4], [[0, 1, 2], [3, 4, 5]])
    assert out[0]["b"] == [1, True, None]


def test_scalars_and_fortran_order():
    out = load(
        io.BytesIO(
            pickle.dumps({"s": np.float32(1.5), "f": np.asfortranarray([[1.0, 2.0], [3.0, 4.0]])})
        ),
        "x",
    )
    assert out["s"] == 1.5
    np.testing.assert_array_equal(out["f"], [[1.0, 2.0], [3.0, 4.0]])


def test_code_in_the_file_is_not_run(tmp_path: Path):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps({"x": Bomb(str(tmp_path / "ran"))}))
    with pytest.raises(BadInput, match="mkdir"):
        read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value", [np.array(["a", None], dtype=object), {"d": np.array(["x", "y"])}]
)
def test_arrays_of_objects_are_refused(value):
    with pytest.raises(BadInput):
        load(io.BytesIO(pickle.dumps(value)), "x")


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2, 3])[:-3]])
def test_damaged_files_are_named(tmp_path: Path, content: bytes):
    path = tmp_path / "damaged.pkl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"damaged\.pkl"):
        read(path)
