"""Writing by rename, and appending whole lines."""

import json
import os

import pytest

from foretune.errors import BadInput
from foretune.files import (
    append_lines,
    check_folder,
    replace,
    sync_folder,
    write_atomic,
    write_json,
)


def test_write_atomic_makes_folders_and_leaves_nothing_beside(tmp_path):
    target = tmp_path / "a" / "b.txt"
    write_atomic(target, "one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(target.parent) == ["b.txt"]


def test_replace_keeps_the_old_content_when_the_writer_fails(tmp_path):
    target = tmp_path / "f"
    write_atomic(target, "old")

    def write_and_fail():
        with replace(target) as temporary:
            temporary.write_text("half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_reader_during_the_write_sees_the_old_content(tmp_path):
    target = tmp_path / "f"
    write_atomic(target, "old")
    with replace(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_files_are_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "f", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_write_json_ends_with_a_newline_and_keeps_letters(tmp_path):
    write_json(tmp_path / "f.json", {"ü": [1, 2.5, None]})
    text = (tmp_path / "f.json").read_text()
    assert text.endswith("}\n") and "ü" in text and json.loads(text) == {"ü": [1, 2.5, None]}


@pytest.mark.parametrize("torn", ["", "half a li", '{"a": 1'])
def test_append_lines_closes_a_torn_line_first(tmp_path, torn):
    path = tmp_path / "log"
    path.write_text("whole\n" + torn)
    append_lines(path, ["next", "last"])
    lines = path.read_text().split("\n")
    assert lines == ["whole", *([torn] if torn else []), "next", "last", ""]


def test_a_rename_is_followed_by_an_fsync_of_its_folder(tmp_path, monkeypatch):
    """Only then does the new name outlast a power cut."""
    done, rename, fsync = [], os.replace, os.fsync

    def renamed(source, target):
        done.append("rename")
        rename(source, target)

    def synced(handle):
        status = os.fstat(handle)
        kinds = {tmp_path.stat().st_ino: "folder"}
        done.append(kinds.get(status.st_ino, "file"))
        fsync(handle)

    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "fsync", synced)
    write_atomic(tmp_path / "f", "x")
    assert done == ["file", "rename", "folder"]
    sync_folder(tmp_path)
    assert done[3:] == ["folder"]


@pytest.mark.parametrize("below", ["", "studies", "studies/s"])
def test_a_folder_that_a_file_stands_in_the_way_of_is_refused(tmp_path, below):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(BadInput, match=r"study .* cannot be a folder: .* is a file"):
        check_folder(tmp_path / "data" / below, "study")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    check_folder(tmp_path / "s", "study", "best.yaml")
    (tmp_path / "s" / "best.yaml").mkdir(parents=True)
    with pytest.raises(BadInput, match="best.yaml in it is a folder, and a file is needed"):
        check_folder(tmp_path / "s", "study", "report.html", "best.yaml")


def test_a_link_that_leads_nowhere_is_no_folder(tmp_path):
    (tmp_path / "data").symlink_to(tmp_path / "gone")
    with pytest.raises(BadInput, match="cannot be a folder"):
        check_folder(tmp_path / "data", "study")
