"""A study's folder belongs to one process at a time, and to one run within it where that is asked."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from foretune.errors import BadInput
from foretune.study.lock import StudyLock

TRY = "import sys; from foretune.study.lock import StudyLock; StudyLock(sys.argv[1])"


def elsewhere(folder: Path) -> subprocess.CompletedProcess[str]:
    """Another process that tries to hold `folder`."""
    return subprocess.run(
        [sys.executable, "-c", TRY, str(folder)], capture_output=True, text=True, check=False
    )


def test_another_process_is_refused_until_the_last_holder_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    outer, inner = StudyLock(folder), StudyLock(folder)
    inner.release()
    refused = elsewhere(folder)
    assert refused.returncode == 1
    assert "'s' is being run by another process" in refused.stderr
    outer.release()
    assert elsewhere(folder).returncode == 0


def test_letting_go_twice_takes_nothing_from_others(tmp_path: Path) -> None:
    one, other = StudyLock(tmp_path / "s"), StudyLock(tmp_path / "s")
    one.release()
    one.release()
    assert elsewhere(tmp_path / "s").returncode == 1  # `other` still holds it
    other.release()


def test_a_first_holder_wants_no_other_in_its_process_but_lets_others_in(tmp_path: Path) -> None:
    with StudyLock(tmp_path / "s"), pytest.raises(BadInput, match="open in this process already"):
        StudyLock(tmp_path / "s", first=True)
    with StudyLock(tmp_path / "s", first=True):
        StudyLock(tmp_path / "s").release()  # the study of that run, in the same process
        assert elsewhere(tmp_path / "s").returncode == 1
    assert elsewhere(tmp_path / "s").returncode == 0


def test_two_paths_of_one_folder_are_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        StudyLock(tmp_path / "s"),
        pytest.raises(BadInput, match="already"),
    ):
        StudyLock(tmp_path / "link" / "s", first=True)


def test_threads_of_one_process_share_it(tmp_path: Path) -> None:
    held = StudyLock(tmp_path / "s")
    thread = threading.Thread(target=lambda: StudyLock(tmp_path / "s").release())
    thread.start()
    thread.join()
    assert elsewhere(tmp_path / "s").returncode == 1  # the thread gave back its own hold alone
    held.release()


def test_a_folder_that_can_be_none_is_refused(tmp_path):
    with pytest.raises(BadInput, match="can be no folder: .*null"):
        StudyLock("a\0b")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(BadInput, match="can be no folder"):
        StudyLock(tmp_path / "loop" / "study")
