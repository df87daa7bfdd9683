"""When a checkpoint that somebody else writes is whole."""

import os
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from foretune.running.scripts import checkpoint
from foretune.running.scripts.checkpoint import CheckpointWatch
from foretune.running.scripts.file_formats import is_whole, open_for_writing


def files(folder):
    """A whole file of each format that says where it ends."""
    weights = {"w": np.arange(2000.0), "b": np.ones((3, 4), dtype=np.float32)}
    torch.save({"epoch": 3, "w": torch.arange(2000)}, folder / "last.pt")
    np.savez(folder / "last.npz", **weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "np"})
    (folder / "state.json").write_text('{"epoch": 3, "loss": [1.0, 0.5]}', encoding="utf-8")
    # superblocks of HDF5's versions 0, 1 and 2, whose files end at byte 400
    end = (400).to_bytes(8, "little")
    head = b"\x89HDF\r\n\x1a\n"
    for version, at in ((0, 40), (1, 44), (2, 28)):
        start = bytearray(head + bytes(392))
        start[8] = version
        start[9 if version == 2 else 13] = 8
        start[at : at + 8] = end
        (folder / f"model-{version}.h5").write_bytes(start)
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_a_whole_file_is_told_from_each_of_its_beginnings(tmp_path):
    whole = files(tmp_path)
    assert len(whole) == 7
    for path in whole:
        content = path.read_bytes()
        assert is_whole(path) is True, path
        for size in {64, len(content) // 2, len(content) - 1} - {0}:
            if size < len(content):
                path.write_bytes(content[:size])
                assert is_whole(path) is False, (path, size)


def test_of_other_formats_nothing_is_known(tmp_path):
    (tmp_path / "last.bin").write_bytes(b"weights")
    assert is_whole(tmp_path / "last.bin") is None


WRITER = """
import sys, time
stream = open(sys.argv[1], sys.argv[2])
if sys.argv[2] != "rb":
    stream.write(b"half"); stream.flush()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def writer():
    """Start a process that has a file open, until it is let go."""
    started = []

    def start(path, mode="wb"):
        command = [sys.executable, "-c", WRITER, str(path), mode]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"open\n"
        return process

    yield start
    for process in started:
        process.communicate()


def until_settled(watch, seconds=20.0):
    """How long it takes to settle."""
    began = time.monotonic()
    while not watch.settled and time.monotonic() < began + seconds:
        watch.look()
        time.sleep(0.01)
    assert watch.settled
    return time.monotonic() - began


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has open")
def test_an_unknown_file_is_written_when_nobody_has_it_open_to_write(tmp_path, writer, monkeypatch):
    path = tmp_path / "last.bin"
    process = writer(path)
    monkeypatch.setattr(checkpoint, "OPEN_SECONDS", 60.0)
    watch = CheckpointWatch(tmp_path, "last.*", lambda: [process.pid])
    watch.path = None
    watch.look()  # it is new now
    time.sleep(3 * checkpoint.SETTLED_SECONDS)
    assert not watch.settled
    process.communicate()
    assert until_settled(watch) < 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has open")
def test_who_reads_a_file_does_not_write_it(tmp_path, writer):
    (tmp_path / "last.bin").write_bytes(b"x")
    assert not open_for_writing(tmp_path / "last.bin", [writer(tmp_path / "last.bin", "rb").pid])
    pid = writer(tmp_path / "last.bin", "r+b").pid
    assert open_for_writing(tmp_path / "last.bin", [pid]) and open_for_writing(tmp_path, [pid])
    assert not open_for_writing(tmp_path / "last.pt", [pid])


def test_a_file_that_stays_open_counts_after_a_while(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(checkpoint, "OPEN_SECONDS", 0.5)
    pid = writer(tmp_path / "last.bin").pid
    watch = CheckpointWatch(tmp_path, "last.*", lambda: [pid])
    watch.path = None
    watch.look()  # it is new now
    assert 0.3 < until_settled(watch) < 10


def test_half_a_file_of_a_known_format_never_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "OPEN_SECONDS", 0.1)
    torch.save({"w": torch.arange(2000)}, tmp_path / "last.pt")
    content = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(content[:5000])
    watch = CheckpointWatch(tmp_path, "last.*")
    time.sleep(0.3)
    assert not watch.settled and watch.broken
    (tmp_path / "last.pt").write_bytes(content)
    watch.look()
    assert until_settled(watch) < 10 and not watch.broken


def test_a_folder_is_written_when_all_in_it_is(tmp_path):
    folder = tmp_path / "checkpoint-10"
    folder.mkdir()
    watch = CheckpointWatch(tmp_path, "checkpoint-*")
    time.sleep(checkpoint.FOLDER_SECONDS)
    assert not watch.settled  # nothing is in it yet
    for path in files(folder):
        assert path.exists()
    whole = (folder / "last.npz").read_bytes()
    (folder / "last.npz").write_bytes(whole[:1000])
    watch.look()
    time.sleep(1.2 * checkpoint.FOLDER_SECONDS)
    assert not watch.settled
    (folder / "last.npz").write_bytes(whole)
    watch.look()
    assert 0.5 * checkpoint.FOLDER_SECONDS < until_settled(watch) < 10


def test_a_zip_that_grows_behind_its_directory_is_whole_again(tmp_path):
    """As np.savez and torch.save never do, but zipfile's mode "a" does."""
    path = tmp_path / "last.zip"
    for mode in ("w", "a"):
        with zipfile.ZipFile(path, mode) as archive:
            archive.writestr(mode, b"x" * 100)
            archive.fp.flush()
            os.fsync(archive.fp.fileno())
    assert is_whole(path)
