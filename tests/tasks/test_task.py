"""Tasks: split without leaks, content hash, files, folders as users have them."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks.folder import read_folder
from foretune.tasks.loading import load_task, prepared_tasks
from foretune.tasks.task import MAX_BYTES, Task, check_memory, split_by_content
from foretune.views.sheet import sheet, sheet_png


def noise(count: int, size: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def make_task(per_class: int = 10, classes: int = 3, **changes) -> Task:
    images, labels = (noise(per_class * classes), np.repeat(np.arange(classes), per_class))
    names = tuple(f"c{i}" for i in range(classes))
    return Task(
        **{
            "name": "t",
            "images": images,
            "labels": labels,
            "class_names": names,
            "split": split_by_content(images, labels),
            **changes,
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five 20 x 12 images."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number, pixels in enumerate(
            np.random.default_rng(label).integers(0, 256, (5, 12, 20, 3), dtype=np.uint8)
        ):
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


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


def test_read_folder(folder: Path):
    (folder / ".DS_Store").write_text("clutter")
    (folder / "README.md").write_text("about")
    (folder / "cat" / "Thumbs.db").write_text("clutter")
    seen = []
    task = read_folder(folder, 10, lambda done, total: seen.append((done, total)))
    assert (task.name, task.class_names, task.images.shape) == (
        "pets",
        ("cat", "dog"),
        (10, 10, 10, 3),
    )
    assert task.labels.tolist() == [0] * 5 + [1] * 5
    assert seen[-1] == (10, 10)
    assert read_folder(folder, 10).hash == task.hash


def _loose(root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root / "loose.png")


def _nested(root: Path) -> None:
    (root / "cat" / "kittens").mkdir()


def _few(root: Path) -> None:
    for number in (0, 1, 2):
        (root / "dog" / f"{number}.png").unlink()


def _one_class(root: Path) -> None:
    for file in (root / "dog").iterdir():
        file.unlink()
    (root / "dog").rmdir()


def _truncated(root: Path) -> None:
    (root / "cat" / "1.png").write_bytes((root / "cat" / "1.png").read_bytes()[:200])


def _text(root: Path) -> None:
    (root / "cat" / "1.png").write_text("no image")


def _heic(root: Path) -> None:
    (root / "cat" / "1.heic").write_bytes(b"x")


def _link_out(root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root.parent / "outside.png")
    os.symlink(root.parent / "outside.png", root / "cat" / "link.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_loose, r"loose\.png beside the class folders"),
        (_nested, r"kittens: is a folder inside a class folder"),
        (_few, r"dog: class with 2 images, at least 3"),
        (_one_class, r"has 1 class folder;"),
        (_truncated, r"cat/1\.png: cannot be read as an image"),
        (_text, r"cat/1\.png: is no image"),
        (_heic, r"1\.heic: is no image of a kind read here"),
        (_link_out, r"link\.png: is a link out of"),
    ],
)
def test_read_folder_names_the_file_that_it_refuses(folder: Path, spoil, message: str):
    spoil(folder)
    with pytest.raises(BadInput, match=message):
        read_folder(folder, 10)


def test_read_folder_refuses_an_empty_or_flat_folder(tmp_path: Path):
    with pytest.raises(
        BadInput, match="is empty; a task is a folder with one folder of images per class"
    ):
        read_folder(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="put the images into one folder per class"):
        read_folder(tmp_path)


def test_memory_limit_tells_how_many_fit():
    most = MAX_BYTES // (64 * 64 * 3)
    check_memory(most, 64, "x")
    with pytest.raises(BadInput, match=f"at this size the limit is {most:,}"):
        check_memory(most + 1, 64, "x")


def test_load_task_finds_folders_files_and_prepared_tasks(folder: Path, tmp_path: Path):
    make_task().save(tmp_path / "data" / "images" / "stored.npz")
    assert prepared_tasks(tmp_path / "data") == ["stored"]
    assert load_task("stored", tmp_path / "data", 8).hash == make_task().hash
    assert load_task("stored", tmp_path / "data", 12).images.shape[1] == 12
    assert (
        load_task(str(tmp_path / "data" / "images" / "stored.npz"), tmp_path, 8).hash
        == make_task().hash
    )
    assert load_task(folder, tmp_path / "data", 10).hash == read_folder(folder, 10).hash


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sotred", "did you mean stored"),
        ("chess_fotos", "did you mean chess_photos"),
        ("chess_photos", r"run: python -m foretune\.sources\.prepare chess_photos"),
        ("/no/such/thing/qqq", "no such folder.*prepared tasks: stored"),
        ("torchvision:NoSet", "torchvision:NoSet: is not one of"),
    ],
)
def test_load_task_says_what_is_wrong_with_a_name(tmp_path: Path, spec: str, message: str):
    make_task().save(tmp_path / "images" / "stored.npz")
    with pytest.raises(BadInput, match=message):
        load_task(spec, tmp_path)


def test_load_task_refuses_archives_other_files_and_sizes(tmp_path: Path):
    (tmp_path / "pets.zip").write_bytes(b"PK")
    (tmp_path / "cat.jpg").write_bytes(b"x")
    with pytest.raises(BadInput, match="is an archive; unpack it"):
        load_task(str(tmp_path / "pets.zip"), tmp_path)
    with pytest.raises(BadInput, match="is a file; give a folder"):
        load_task(str(tmp_path / "cat.jpg"), tmp_path)
    with pytest.raises(BadInput, match="size=4096"):
        load_task(str(tmp_path), tmp_path, 4096)


def test_sheet_shows_a_row_per_class():
    task = make_task(per_class=10, classes=3)
    page = np.asarray(sheet(task, per_class=4, px=20))
    assert page.shape[0] == 3 * 22
    first = task.images[(task.split == 0) & (task.labels == 1)][0]
    assert (
        abs(page[22:42, page.shape[1] - 4 * 22 : page.shape[1] - 4 * 22 + 20].mean() - first.mean())
        < 4
    )
    assert sheet_png(task).startswith(b"\x89PNG")
