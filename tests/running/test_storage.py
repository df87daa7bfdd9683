"""Checkpoints on shared storage: trials that move between machines, cut transfers, what is left at
the end.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.running.objectives.training import Training, link
from foretune.running.storage import Stored
from foretune.study.outcome import Outcome
from foretune.tasks.stored_images import StoredImages
from foretune.tasks.task import Task
from foretune.training import checkpoints
from foretune.training.recipe import Settings

VALUES = [0.2, 0.6, 0.5, 0.7]  # of epochs 1 to 4


@dataclass(frozen=True)
class Counted(Training):
    """Training without a network: the checkpoint holds the rows, and each epoch that is executed is
    written down.
    """

    log: Path = Path()

    def run(self, config_id, config, start, stop, on_epoch=None):
        last, best = self.checkpoint(config_id), self.checkpoint(config_id, best=True)
        rows = (checkpoints.load(last) or {"rows": []})["rows"]
        top = max((row["valid_accuracy"] for row in rows), default=0.0)
        for epoch in range(len(rows) + 1, stop + 1):
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(f"{epoch}\n")
            rows.append({"epoch": epoch, "valid_accuracy": VALUES[epoch - 1]})
            checkpoints.save(last, {"rows": rows})
            if rows[-1]["valid_accuracy"] > top:
                top = rows[-1]["valid_accuracy"]
                link(last, best)
            if on_epoch:
                on_epoch(rows[-1])
        return Outcome(rows[start:stop])


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that moves this process to another machine, which has no files of the one
    before.
    """

    def move(name):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / name))

    move("a")
    return move


@pytest.fixture
def task_file(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 15)
    images = (rng.integers(0, 100, (30, 16, 16, 3)) + labels[:, None, None, None] * 100).astype(
        np.uint8
    )
    split = np.tile([0, 0, 0, 1, 2], 6).astype(np.uint8)
    Task("a", images, labels, ("dark", "bright"), split).save(tmp_path / "task.npz")
    return tmp_path / "task.npz"


@pytest.fixture(params=["folder", "memory"])
def stored(request, tmp_path, task_file):
    """An objective with its storage."""
    address = (
        f"file://{tmp_path}/shared"
        if request.param == "folder"
        else f"memory://{tmp_path.name}/shared"
    )
    training = Counted(task_file, Settings(), tmp_path / "home", log=tmp_path / "executed")
    objective = Stored.of(training, address)
    objective.prepare(new=True)
    return objective


def rows(*epochs):
    return [{"epoch": e, "valid_accuracy": VALUES[e - 1]} for e in epochs]


def test_a_trial_goes_on_where_another_machine_left_it(stored, machine, tmp_path):
    assert stored.run(3, {}, 0, 2) == Outcome(rows(1, 2))
    machine("b")
    seen = []
    assert stored.run(3, {}, 2, 3, seen.append) == Outcome(rows(3))
    assert seen == rows(3)
    machine("a")  # which has its own, older checkpoint
    assert stored.run(3, {}, 3, 4) == Outcome(rows(4))
    assert (tmp_path / "executed").read_text().split() == ["1", "2", "3", "4"]


def test_a_cut_transfer_costs_the_trials_epochs_and_nothing_else(stored, machine, tmp_path):
    stored.run(3, {}, 0, 2)
    files, root = stored._files()
    files.pipe_file(f"{root}/trial-3.ckpt", files.cat_file(f"{root}/trial-3.ckpt")[:-9])
    machine("b")
    assert stored.run(3, {}, 2, 3) == Outcome(rows(3))
    assert (tmp_path / "executed").read_text().split() == ["1", "2", "1", "2", "3"]


def test_what_is_needed_comes_home_the_rest_goes_and_the_tables_are_published(stored, tmp_path):
    stored.run(3, {}, 0, 3)
    stored.run(4, {}, 0, 1)
    best = stored.objective.checkpoint(3, best=True)
    stored.fetch({best, stored.objective.checkpoint(9)})  # nobody has trained 9
    assert checkpoints.load(best) == {"rows": rows(1, 2)}  # the best epoch, not the last
    assert [path.name for path in stored.objective.folder.iterdir()] == ["trial-3.best.ckpt"]
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "about.json").write_text(json.dumps({"name": "s"}))
    (tmp_path / "study" / "secret.txt").write_text("not a table")
    stored.publish(tmp_path / "study")
    files, root = stored._files()
    assert sorted(str(f).rpartition("/")[2] for f in files.find(root)) == sorted(
        ["trial-3.best.ckpt", "about.json", stored.task]
    )


def test_an_address_is_emptied_for_a_new_study_only(stored, machine, tmp_path):
    stored.run(3, {}, 0, 2)
    stored.prepare(new=False)
    assert stored.run(3, {}, 0, 2) == Outcome(rows(1, 2))
    stored.prepare(new=True)
    stored.run(3, {}, 0, 1)  # this machine's own copy is of the study before
    assert (tmp_path / "executed").read_text().split() == ["1", "2", "1"]


def test_trials_train_on_the_stored_images(stored, machine, task_file):
    class Looks(Counted):
        def run(self, config_id, config, start, stop, on_epoch=None):
            return Outcome(
                [{"epoch": stop, "images": len(self.task.labels), "file": str(self.task_file)}]
            )

    task_file.rename(task_file.with_suffix(".moved"))
    machine("b")
    training = Looks(task_file, Settings(), stored.objective.folder, log=stored.objective.log)
    (row,) = Stored(training, stored.url, stored.task).run(0, {}, 0, 1).rows
    assert row["images"] == 30
    assert "/b/" in row["file"]
    assert row["file"].endswith(stored.task)
    with pytest.raises(BadInput, match=r"has no task-none\.npz"):
        Stored(training, stored.url, "task-none.npz").run(0, {}, 0, 1)


def test_images_in_a_file_of_their_own_travel_with_their_task(stored, machine, tmp_path):
    class Looks(Counted):
        def run(self, config_id, config, start, stop, on_epoch=None):
            images = self.task.images
            return Outcome([{"epoch": stop, "image": images[3].tolist(), "file": str(images.path)}])

    whole = Task.load(tmp_path / "task.npz")
    np.save(tmp_path / "pixels.npy", whole.images)
    file = tmp_path / "home" / "task.npz"
    replace(whole, images=StoredImages(tmp_path / "pixels.npy")).save(file)
    training = Looks(file, Settings(), stored.objective.folder, log=stored.objective.log)
    objective = Stored.of(training, stored.url)
    objective.prepare(new=True)
    machine("b")
    for left in list(file.parent.glob("*.np[yz]")):
        left.unlink()
    training = Looks(file, Settings(), stored.objective.folder, log=stored.objective.log)
    (row,) = Stored(training, objective.url, objective.task).run(0, {}, 0, 1).rows
    assert row["image"] == whole.images[3].tolist() and "/b/" in row["file"]


def test_an_address_that_cannot_be_used_is_refused_at_once(task_file, tmp_path):
    with pytest.raises(BadInput, match="storage 'nowhere://bucket' cannot be used"):
        Stored(Training(task_file, Settings(), tmp_path), "nowhere://bucket")
