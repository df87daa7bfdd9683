"""Tasks: split without leaks, content hash, files."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from toy_images import make_task, noise

from foretune.errors import BadInput
from foretune.tasks.split import split_by_content
from foretune.tasks.task import Task


def test_split_is_60_20_20_in_every_class():
    labels = np.repeat([0, 1, 2], [50, 10, 100])
    split = split_by_content(noise(160), labels)
    for label, n in enumerate((50, 10, 100)):
        assert np.bincount(split[labels == label], minlength=3).tolist() == [
            0.6 * n,
            0.2 * n,
            0.2 * n,
        ]


def test_split_depends_on_content_not_on_order():
    images, labels = noise(60), np.tile([0, 1], 30)
    order = np.random.default_rng(1).permutation(60)
    assert np.array_equal(
        split_by_content(images, labels)[order], split_by_content(images[order], labels[order])
    )


def test_equal_images_fall_in_one_part_even_across_classes():
    images, labels = noise(40), np.tile([0, 1], 20)
    images[7], images[20] = (images[2], images[3])  # 7 and 2 differ in class, 20 and 3 too
    split = split_by_content(images, labels)
    assert split[7] == split[2]
    assert split[20] == split[3]


def test_groups_are_not_divided():
    groups = [f"patient {row // 4}" for row in range(120)]
    split = split_by_content(noise(120), np.tile([0, 1], 60), groups=groups)
    assert all(len(set(split[4 * patient : 4 * patient + 4])) == 1 for patient in range(30))
    assert np.bincount(split).tolist() == [72, 24, 24]


def test_split_of_three_images_gives_one_to_each_part():
    assert sorted(split_by_content(noise(6), np.repeat([0, 1], 3))[:3].tolist()) == [0, 1, 2]


def test_split_refuses_a_class_of_equal_images():
    images = noise(10)
    images[5:] = images[5]
    with pytest.raises(BadInput, match="'same'.*too alike"):
        split_by_content(images, np.repeat([0, 1], 5), ("various", "same"))


def test_hash_sees_content_only():
    task = make_task()
    changed = task.images.copy()
    changed[0, 0, 0, 0] ^= 1
    assert make_task(name="other", source="s", licence="l").hash == task.hash
    assert (
        len(
            {
                task.hash,
                make_task(images=changed).hash,
                make_task(labels=task.labels[::-1]).hash,
                make_task(class_names=("c0", "c1", "x")).hash,
            }
        )
        == 4
    )
    assert make_task(split=np.roll(task.split, 1)).hash != task.hash


def test_save_and_load_keep_everything_and_the_bytes_are_the_same(tmp_path: Path):
    task = make_task(source="src", licence="MIT", class_names=("ä", "b", "c d"))
    task.save(tmp_path / "a.npz")
    task.save(tmp_path / "b.npz")
    loaded = Task.load(tmp_path / "a.npz")
    assert (loaded.name, loaded.source, loaded.licence, loaded.class_names) == (
        "t",
        "src",
        "MIT",
        ("ä", "b", "c d"),
    )
    assert loaded.hash == task.hash
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest() != task.hash


def test_load_splits_a_file_without_split(tmp_path: Path):
    task = make_task()
    np.savez(
        tmp_path / "plain.npz",
        images=task.images,
        labels=task.labels,
        class_names=np.array(task.class_names),
    )
    assert Task.load(tmp_path / "plain.npz").hash == task.hash
    assert Task.load(tmp_path / "plain.npz").name == "plain"


def test_load_refuses_what_is_no_task(tmp_path: Path):
    np.savez(tmp_path / "x.npz", images=noise(3))
    with pytest.raises(BadInput, match="lacks class_names, labels"):
        Task.load(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BadInput, match="y.npz"):
        Task.load(tmp_path / "y.npz")
    np.savez(
        tmp_path / "z.npz",
        images=np.array([{"code": 1}], dtype=object),
        labels=np.zeros(1),
        class_names=np.array(["a"]),
    )
    with pytest.raises(BadInput, match="z.npz: cannot be read as an image task"):
        Task.load(tmp_path / "z.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((30, 8, 8), np.uint8)}, "uint8"),
        ({"labels": np.zeros(30, np.int64)}, "every class present"),
        ({"labels": np.full(30, -1)}, "every class present"),
        ({"split": np.zeros(3, np.uint8)}, "must be as many"),
        ({"class_names": ("only",)}, "at least 2"),
    ],
)
def test_task_refuses_arrays_that_do_not_fit(changes: dict, message: str):
    with pytest.raises(BadInput, match=message):
        make_task(**changes)


def test_part_and_resized():
    task = make_task()
    images, labels = task.part("valid")
    assert images.shape == (6, 8, 8, 3)
    assert np.bincount(labels).tolist() == [2, 2, 2]
    assert task.resized(8) is task
    assert task.resized(16).images.shape == (30, 16, 16, 3)
    assert np.array_equal(task.resized(16).split, task.split)
    with pytest.raises(BadInput, match="'training'"):
        task.part("training")


@pytest.mark.parametrize("shape", [(10**6, 512, 512, 3), (3, 2**40)])
def test_an_array_that_claims_more_than_it_holds_takes_no_memory(tmp_path, shape):
    """Of a kilobyte that claims 732 GiB numpy would take all of them before it reads one."""
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        for name, array in (("labels", np.zeros(4, int)), ("class_names", np.array(["a", "b"]))):
            with archive.open(f"{name}.npy", "w") as stream:
                np.save(stream, array)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with archive.open("images.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(b"x")
    with pytest.raises(BadInput, match=r"images\.npy claims [\d,]+ bytes and holds"):
        Task.load(tmp_path / "bomb.npz")
