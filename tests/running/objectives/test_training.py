"""The objective that trains: what is around the trainer (which has tests of its own)."""

import os
import sys
from types import SimpleNamespace

from foretune.running.objectives.training import Training, link
from foretune.study.outcome import Outcome
from foretune.training.recipe import Settings


def fake_trainer(monkeypatch, values, checkpoint_of):
    """Stand in for `foretune.training.trial`: writes a checkpoint file and reports a row per epoch;
    fails after the last value.
    """

    class TrialFailed(RuntimeError):
        def __init__(self, reason, rows):
            self.reason, self.rows = reason, rows

    def train(task, config, start, stop, *, settings, seed, checkpoint, on_epoch, rank):
        rows = []
        for epoch in range(start + 1, stop + 1):
            if epoch > len(values):
                raise TrialFailed("training loss is nan", rows)
            checkpoint.parent.mkdir(exist_ok=True)
            checkpoint_of(checkpoint, epoch)
            rows.append({"epoch": epoch, "valid_accuracy": values[epoch - 1]})
            on_epoch(rows[-1])
        return rows

    monkeypatch.setitem(
        sys.modules,
        "foretune.training.trial",
        SimpleNamespace(train=train, TrialFailed=TrialFailed),
    )
    monkeypatch.setattr(Training, "task", property(lambda self: None))


def replaced(path, epoch):
    """Replace the checkpoint by rename, as the trainer does."""
    new = path.with_suffix(".new")
    new.write_text(f"after epoch {epoch}")
    os.replace(new, path)


def test_the_best_epochs_checkpoint_is_kept_beside_the_last(monkeypatch, tmp_path):
    objective = Training(tmp_path / "task.npz", Settings(), tmp_path / "checkpoints")
    fake_trainer(monkeypatch, [0.3, 0.6, 0.5, 0.6, 0.1], replaced)
    seen = []
    outcome = objective.run(7, {}, 0, 4, seen.append)
    assert outcome == Outcome(seen, None) and [r["epoch"] for r in seen] == [1, 2, 3, 4]
    assert objective.checkpoint(7).read_text() == "after epoch 4"
    assert (
        objective.checkpoint(7, best=True).read_text() == "after epoch 2"
    )  # the first of equal ones, as the incumbent is


def test_divergence_is_an_outcome_with_the_rows_before_it(monkeypatch, tmp_path):
    fake_trainer(monkeypatch, [0.3, 0.6], replaced)
    outcome = Training(tmp_path / "task.npz", Settings(), tmp_path / "checkpoints").run(0, {}, 0, 4)
    assert [r["epoch"] for r in outcome.rows] == [1, 2] and outcome.failed == "training loss is nan"


def test_a_link_replaces_an_older_one(tmp_path):
    for content in ("one", "two"):
        (tmp_path / "a").unlink(missing_ok=True)
        (tmp_path / "a").write_text(content)
        link(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").read_text() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
