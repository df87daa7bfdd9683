"""torchvision's datasets, from files laid out as torchvision expects them: MNIST's format is made
here.
"""

import struct
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.tasks.loading import load_task
from foretune.tasks.stored_images import StoredImages
from foretune.tasks.torchvision import DATASETS, list_torchvision


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """40 training and 20 test images of ten digits, each of random pixels."""
    raw = tmp_path / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 20)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, n, 28, 28) + pixels.tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 2049, n) + bytes(np.arange(n, dtype=np.uint8) % 10)
        )
    return tmp_path


def test_official_test_part_is_kept_and_a_quarter_of_training_becomes_valid(mnist: Path):
    task = load_task("torchvision:MNIST", mnist, 28)
    assert (task.name, task.source, task.num_classes) == ("MNIST", "MNIST", 10)
    assert np.bincount(task.split).tolist() == [30, 10, 20]
    assert task.split[40:].tolist() == [2] * 20
    for label in range(10):
        assert np.bincount(task.split[task.labels == label]).tolist() == [3, 1, 2]


def test_a_number_per_class_takes_as_many_of_each_part(mnist: Path):
    task = load_task("torchvision:MNIST:3", mnist, 28)
    assert np.bincount(task.labels[task.split != 2]).tolist() == [3] * 10
    assert np.bincount(task.labels[task.split == 2]).tolist() == [2] * 10
    with pytest.raises(BadInput, match="'few' must be a number"):
        load_task("torchvision:MNIST:few", mnist)


def test_what_is_larger_than_the_memory_allowed_lies_in_a_file(mnist: Path):
    in_memory = load_task("torchvision:MNIST", mnist, 28)
    in_file = load_task("torchvision:MNIST", mnist, 28, memory=0)
    assert isinstance(in_file.images, StoredImages)
    assert in_file.hash == in_memory.hash


def test_without_files_and_network_the_error_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import torchvision.datasets

    class Absent:
        def __init__(self, root: str, download: bool, **options: object):
            raise OSError("no route to host") if download else RuntimeError("not found")

    monkeypatch.setattr(torchvision.datasets, "DTD", Absent)
    with pytest.raises(
        BadInput,
        match=r"DTD: is not in .*cannot be downloaded here \(no route to host\).*put the dataset's files into",
    ):
        list_torchvision("DTD", tmp_path)


def test_every_listed_dataset_exists_and_takes_its_options():
    """The constructors' signatures, without data."""
    import inspect

    import torchvision.datasets

    for name, parts in DATASETS.items():
        parameters = inspect.signature(getattr(torchvision.datasets, name).__init__).parameters
        takes_more = any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
        )
        for options in parts.options.values():
            unknown = {*options, *parts.common} - set(parameters)
            assert not unknown or takes_more, (name, unknown)
            assert "download" in parameters or takes_more, name
