"""Tasks by name, file or folder."""

from pathlib import Path

import pytest
from toy_images import make_task

from foretune.errors import BadInput
from foretune.tasks.loading import load_task, prepared_tasks


def test_load_task_finds_folders_files_and_prepared_tasks(folder: Path, tmp_path: Path):
    make_task().save(tmp_path / "data" / "images" / "stored.npz")
    assert prepared_tasks(tmp_path / "data") == ["stored"]
    assert load_task("stored", tmp_path / "data", 8).hash == make_task().hash
    with pytest.warns(UserWarning, match="stored at 8 px and scaled up to 12 px"):
        assert load_task("stored", tmp_path / "data", 12).hash == make_task().hash
    assert (
        load_task(str(tmp_path / "data" / "images" / "stored.npz"), tmp_path, 8).hash
        == make_task().hash
    )
    assert load_task(folder, tmp_path / "data", 10).images.shape == (10, 10, 10, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sotred", "did you mean stored"),
        ("chess_fotos", "did you mean chess_photos"),
        ("chess_photos", r"run: python -m foretune\.pipeline\.tasks chess_photos"),
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
