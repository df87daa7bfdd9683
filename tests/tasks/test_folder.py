"""Folders of images as users have them, and what is refused in words."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks import pixels
from foretune.tasks.folder import read_folder


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


def _spoil_two(root: Path) -> None:
    (root / "cat" / "1.png").write_bytes(b"no image")
    (root / "dog" / "2.png").write_bytes((root / "dog" / "2.png").read_bytes()[:40])


def test_all_images_that_cannot_be_read_are_in_one_list(folder: Path):
    _spoil_two(folder)
    with pytest.raises(BadInput, match=r"2 of 10 images .*cat/1\.png.*dog/2\.png.*--skip-bad"):
        read_folder(folder, 10)


def test_bad_images_are_left_out_where_that_is_asked_and_each_file_is_decoded_once(
    folder: Path, monkeypatch
):
    whole = read_folder(folder, 10)
    _spoil_two(folder)
    asked: list[Path] = []

    def decode_once(file: Path, size: int):
        asked.append(file)
        return pixels.decode(file, size)

    monkeypatch.setattr("foretune.tasks.folder.decode", decode_once)
    with pytest.warns(UserWarning, match=r"left out 2 of 10 images: .*1\.png.*2\.png"):
        task = read_folder(folder, 10, skip_bad=True)
    assert len(asked) == len(set(asked)) == 10
    # the files are in order of their classes and names
    names = [file.relative_to(folder).as_posix() for file in asked]
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
        read_folder(folder, 10, skip_bad=True)


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
        read_folder(tmp_path, 8)
    with pytest.warns(UserWarning, match="left out 1 of 9 images"):
        assert len(read_folder(tmp_path, 8, skip_bad=True).labels) == 8
    (tmp_path / "c").symlink_to(tmp_path / "c")
    with pytest.raises(BadInput, match="/c: is a link that leads nowhere"):
        read_folder(tmp_path, 8)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_utf8_are_read_as_latin_1(tmp_path):
    root = os.fsencode(tmp_path) + b"/caf\xe9"
    for name in (b"/\xe9t\xe9", "/hivér".encode()):
        _pictures(Path(os.fsdecode(root + name)))
    task = read_folder(os.fsdecode(root), 8)
    assert task.name == task.source == "café" and set(task.class_names) == {"été", "hivér"}
