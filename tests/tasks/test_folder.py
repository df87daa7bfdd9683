"""Folders of images as users have them, and what is refused in words."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks import pixels
from foretune.tasks.loading import load_task


def test_read_folder(folder: Path):
    (folder / ".DS_Store").write_text("clutter")
    (folder / "README.md").write_text("about")
    (folder / "cat" / "Thumbs.db").write_text("clutter")
    seen = []
    task = load_task(folder, size=10, progress=lambda done, total: seen.append((done, total)))
    assert (task.name, task.class_names, task.images.shape) == (
        "pets",
        ("cat", "dog"),
        (10, 10, 10, 3),
    )
    assert task.labels.tolist() == [0] * 5 + [1] * 5
    assert seen[-1] == (10, 10)
    assert load_task(folder, size=10).hash == task.hash


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


def _psd(root: Path) -> None:
    (root / "cat" / "1.psd").write_bytes(b"x")


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
        (_psd, r"1\.psd: is no image of a kind read here"),
        (_link_out, r"link\.png: is a link out of"),
    ],
)
def test_read_folder_names_the_file_that_it_refuses(folder: Path, spoil, message: str):
    spoil(folder)
    with pytest.raises(BadInput, match=message):
        load_task(folder, size=10)


def test_read_folder_refuses_an_empty_or_flat_folder(tmp_path: Path):
    with pytest.raises(
        BadInput, match="is empty; a task is a folder with one folder of images per class"
    ):
        load_task(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="put the images into one folder per class"):
        load_task(tmp_path)


def _spoil_two(root: Path) -> None:
    (root / "cat" / "1.png").write_bytes(b"no image")
    (root / "dog" / "2.png").write_bytes((root / "dog" / "2.png").read_bytes()[:40])


def test_all_images_that_cannot_be_read_are_in_one_list(folder: Path):
    _spoil_two(folder)
    with pytest.raises(BadInput, match=r"2 of 10 images .*cat/1\.png.*dog/2\.png.*--skip-bad"):
        load_task(folder, size=10)


def test_bad_images_are_left_out_where_that_is_asked_and_each_file_is_decoded_once(
    folder: Path, monkeypatch
):
    whole = load_task(folder, size=10)
    _spoil_two(folder)
    asked: list[Path] = []

    def decode_once(file: Path, *how):
        asked.append(file)
        return pixels.decode_measured(file, *how)

    monkeypatch.setattr("foretune.tasks.sources.decode_measured", decode_once)
    with pytest.warns(UserWarning, match=r"left out 2 of 10 images: .*1\.png.*2\.png"):
        task = load_task(folder, size=10, skip_bad=True)
    assert len(asked) == len(set(asked)) == 10
    # the files are in order of their classes and names
    names = sorted(file.relative_to(folder).as_posix() for file in asked)
    kept = [k for k, name in enumerate(names) if name not in ("cat/1.png", "dog/2.png")]
    assert np.array_equal(task.images, whole.images[kept])
    assert np.array_equal(task.labels, whole.labels[kept])


def test_a_class_needs_its_images_among_those_that_can_be_read(folder: Path):
    for k in range(3):
        (folder / "cat" / f"{k}.png").write_bytes(b"no image")
    with (
        pytest.raises(BadInput, match="cat: class with 2 images that can be read, at least 3"),
        pytest.warns(UserWarning, match="left out 3"),
    ):
        load_task(folder, size=10, skip_bad=True)


def split_folder(root: Path, counts: dict[str, int], classes: tuple[str, ...] = ("a", "b")) -> Path:
    """`counts` images of each class in each part, each of another colour."""
    colour = iter(range(1000))
    for part, count in counts.items():
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (9, 9), (next(colour) % 256, ord(name[0]), number))
                image.save(root / part / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    "names",
    [("train", "valid", "test"), ("Train", "val", "Test"), ("Training", "validation", "Testing")],
)
def test_train_valid_and_test_folders_keep_their_split(tmp_path: Path, names: tuple[str, ...]):
    root = split_folder(tmp_path / "set", dict(zip(names, (5, 2, 3), strict=True)))
    task = load_task(root, size=8)
    assert (task.name, task.class_names) == ("set", ("a", "b"))
    assert np.bincount(task.split).tolist() == [10, 4, 6]
    for part, number, count in (("train", 0, 5), ("valid", 1, 2), ("test", 2, 3)):
        images, labels = task.part(part)
        want = [
            pixels.decode(root / names[number] / name / f"{k}.png", 8)
            for name in "ab"
            for k in range(count)
        ]
        assert np.array_equal(images, want)
        assert labels.tolist() == [0] * count + [1] * count


@pytest.mark.parametrize(
    ("given", "parts", "told"),
    [
        ({"train": 8, "test": 3}, [12, 4, 6], "no valid part: 4 of the 16 training images"),
        ({"train": 8, "val": 3}, [12, 6, 4], "no test part: 4 of the 16 training images"),
        ({"train": 10}, [12, 4, 4], "no (valid|test) part: 4 of the 20 training images"),
    ],
)
def test_parts_that_are_missing_are_drawn_from_train_and_told(
    tmp_path: Path, given: dict[str, int], parts: list[int], told: str
):
    with pytest.warns(UserWarning, match=told):
        task = load_task(split_folder(tmp_path / "set", given), size=8)
    assert np.bincount(task.split).tolist() == parts


def test_a_part_may_lack_a_class_but_have_no_other(tmp_path: Path):
    root = split_folder(tmp_path / "set", {"train": 4, "test": 2, "val": 2})
    for file in (root / "val" / "b").iterdir():
        file.unlink()
    (root / "val" / "b").rmdir()
    assert np.bincount(load_task(root, size=8).split).tolist() == [8, 2, 4]
    split_folder(root, {"test": 1}, ("c",))
    with pytest.raises(BadInput, match=r"test/c: is a class that .*train does not have"):
        load_task(root, size=8)


def test_parts_are_not_mistaken_for_classes_nor_classes_for_parts(tmp_path: Path):
    """Pictures of trains and of tests of something are two classes."""
    for name in ("train", "test"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.new("RGB", (9, 9), (number, len(name), 0))
            image.save(tmp_path / "classes" / name / f"{number}.png")
    assert load_task(tmp_path / "classes", size=8).class_names == ("test", "train")
    root = split_folder(tmp_path / "set", {"train": 4, "val": 2, "valid": 2})
    with pytest.raises(BadInput, match="val and valid both name the valid part; leave one"):
        load_task(root, size=8)


def test_a_test_folder_without_classes_is_refused(tmp_path: Path):
    root = split_folder(tmp_path / "set", {"train": 4})
    (root / "test").mkdir()
    Image.new("RGB", (9, 9)).save(root / "test" / "1.png")
    with pytest.raises(BadInput, match=r"test: holds images such as 1\.png but no class folders"):
        load_task(root, size=8)


def test_heic_without_its_package_is_refused_before_anything_is_decoded(folder: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("foretune.tasks.sources.decode_measured", None)
    (folder / "dog" / "1.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic")
    with pytest.raises(BadInput, match=r"1\.HEIC: an image in HEIC .*foretune\[heif\]"):
        load_task(folder, size=10)


def _pictures(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        colour = (60 * number, len(os.fsencode(root)) % 250, 9)
        Image.new("RGB", (9, 9), colour).save(root / f"{number}.png")


def test_a_link_to_itself_is_refused_like_any_file_that_is_none(tmp_path):
    for name in ("a", "bb"):
        _pictures(tmp_path / name)
    (tmp_path / "a" / "loop.png").symlink_to(tmp_path / "a" / "loop.png")
    with pytest.raises(BadInput, match=r"loop\.png: cannot be read as an image.*symbolic links"):
        load_task(tmp_path, size=8)
    with pytest.warns(UserWarning, match="left out 1 of 9 images"):
        assert len(load_task(tmp_path, size=8, skip_bad=True).labels) == 8
    (tmp_path / "c").symlink_to(tmp_path / "c")
    with pytest.raises(BadInput, match="/c: is a link that leads nowhere"):
        load_task(tmp_path, size=8)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_utf8_are_read_as_latin_1(tmp_path):
    root = os.fsencode(tmp_path) + b"/caf\xe9"
    for name in (b"/\xe9t\xe9", "/hivér".encode()):
        _pictures(Path(os.fsdecode(root + name)))
    task = load_task(os.fsdecode(root), size=8)
    assert task.name == task.source == "café" and set(task.class_names) == {"été", "hivér"}


def test_files_that_are_no_images_are_in_the_list_of_the_damaged_ones(folder: Path):
    _spoil_two(folder)
    (folder / "cat" / "note.txt").write_text("not a picture", encoding="utf-8")
    with pytest.raises(BadInput, match=r"3 of 11 images .*note\.txt: is no image of a kind.*dog/2"):
        load_task(folder, size=10)
    with pytest.warns(UserWarning, match="left out 3 of 11 images"):
        task = load_task(folder, size=10, skip_bad=True)
    assert len(task.labels) == 8
