"""Images that stay in their file."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from toy_images import make_task, noise

from foretune.errors import BadInput
from foretune.tasks.stored_images import StoredImages
from foretune.tasks.task import Task, images_beside


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Twenty images."""
    np.save(tmp_path / "images.npy", noise(20))
    return tmp_path / "images.npy"


@pytest.mark.parametrize(
    "index",
    [
        3,
        -1,
        np.int64(7),
        slice(2, 9),
        slice(None, None, -3),
        [5, 5, 0, 19, 6, 7, 8],
        np.arange(20) % 3 == 0,
        np.array([[1, 2], [3, 4]]),
        np.array([], dtype=int),
    ],
)
def test_an_index_gives_what_it_gives_of_an_array(file: Path, index):
    whole, stored = noise(20), StoredImages(file)
    assert np.array_equal(stored[index], whole[index])
    if np.ndim(stored.rows[index]) == 1:
        assert np.array_equal(np.asarray(stored.select(index)), whole[index])
        # of a selection, rows count from its own start
        some = stored.select(slice(4, None))
        assert np.array_equal(some[:5], whole[4:9])


def test_it_looks_like_an_array_and_can_be_sent(file: Path):
    stored = StoredImages(file)
    assert (stored.shape, stored.ndim, stored.dtype, len(stored)) == ((20, 8, 8, 3), 4, "u1", 20)
    assert stored.nbytes == 20 * 8 * 8 * 3
    assert np.array_equal(pickle.loads(pickle.dumps(stored))[:], noise(20))
    assert np.array_equal(np.stack(list(stored)), noise(20))
    assert [len(chunk) for chunk in stored.chunks(8)] == [8, 8, 4]
    with pytest.raises(IndexError):
        stored[20]


def test_what_is_no_such_file_is_refused(tmp_path: Path, file: Path):
    with pytest.raises(BadInput, match=r"none\.npy: cannot be read"):
        StoredImages(tmp_path / "none.npy")
    np.save(tmp_path / "grey.npy", np.zeros((4, 8, 8)))
    with pytest.raises(BadInput, match=r"must be uint8 \(N, H, W, 3\), but are float64"):
        StoredImages(tmp_path / "grey.npy")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadInput, match="is cut short"):
        StoredImages(file)
    np.save(tmp_path / "code.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="but are object"):
        StoredImages(tmp_path / "code.npy")


@pytest.fixture
def tasks(tmp_path: Path) -> tuple[Task, Task]:
    """The same task with its images in memory and in a file."""
    whole = make_task()
    np.save(tmp_path / "cache.npy", whole.images)
    return whole, make_task(images=StoredImages(tmp_path / "cache.npy"), origin="o", crop="pad")


def test_a_task_is_the_same_wherever_its_images_are(tasks: tuple[Task, Task]):
    whole, stored = tasks
    assert stored.hash == whole.hash
    for part in ("train", "valid", "test"):
        images, labels = stored.part(part)
        assert isinstance(images, StoredImages)
        assert np.array_equal(images[:], whole.part(part)[0])
        assert np.array_equal(labels, whole.part(part)[1])
    assert stored.resized(16).hash == whole.resized(16).hash


def test_a_task_is_saved_with_a_link_to_its_images_and_loaded_without_reading_them(
    tasks: tuple[Task, Task], tmp_path: Path, monkeypatch
):
    whole, stored = tasks
    file = tmp_path / "study" / "task.npz"
    stored.save(file)
    beside = images_beside(file)
    assert beside is not None and beside.parent == file.parent
    assert beside.samefile(tmp_path / "cache.npy")
    monkeypatch.setattr(StoredImages, "_read", None)
    loaded = Task.load(file)
    assert (loaded.hash, loaded.origin, loaded.crop) == (whole.hash, "o", "pad")
    monkeypatch.undo()
    assert np.array_equal(loaded.images[:], whole.images)
    whole.save(tmp_path / "whole.npz")
    assert images_beside(tmp_path / "whole.npz") is None


def test_a_task_names_no_images_elsewhere(tasks: tuple[Task, Task], tmp_path: Path):
    tasks[1].save(tmp_path / "task.npz")
    with np.load(tmp_path / "task.npz") as stored:
        content = dict(stored) | {"images_file": np.array("../cache.npy")}
    np.savez(tmp_path / "forged.npz", **content)
    with pytest.raises(BadInput, match=r"names '\.\./cache\.npy' for its images"):
        Task.load(tmp_path / "forged.npz")


def test_images_are_copied_where_no_link_can_be(
    tasks: tuple[Task, Task], tmp_path: Path, monkeypatch
):
    def none(source, target):
        raise OSError("another disk")

    monkeypatch.setattr("os.link", none)
    tasks[1].save(tmp_path / "study" / "task.npz")
    loaded = Task.load(tmp_path / "study" / "task.npz")
    assert np.array_equal(loaded.images[:], tasks[0].images)
