"""Exported networks predict what the trial's network predicts, and nothing else is accepted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foretune.errors import BadInput
from foretune.tasks.task import Task
from foretune.training.export import export, load, predict
from foretune.training.recipe import Settings
from foretune.training.trial import evaluate, train

SETTINGS = Settings(
    network="shufflenet_v2_x05",
    image_size=32,
    pretrained=False,
    batch_size=8,
    max_epoch=2,
    device="cpu",
)


@pytest.fixture(scope="module")
def task() -> Task:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (rng.integers(0, 60, (60, 24, 24, 3)) + 90 * labels[:, None, None, None]).astype(
        np.uint8
    )
    return Task(
        "levels",
        images,
        labels.astype(np.int64),
        ("low", "mid", "high"),
        np.repeat([0, 1, 2], 20).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def trained(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    config = {"learning_rate": 1e-3, "optimizer": "adam", "finetune": "last_blocks"}
    train(task, config, 0, 1, settings=SETTINGS, seed=3, checkpoint=folder / "c")
    export(folder / "c", folder / "best.pt")
    return folder


def test_predicts_as_the_trial_does(task: Task, trained: Path) -> None:
    images, labels = task.part("test")
    probabilities = predict(trained / "best.pt", images)
    assert probabilities.shape == (20, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    found = evaluate(task, trained / "c", settings=SETTINGS)
    assert found["accuracy"] == pytest.approx(float((probabilities.argmax(1) == labels).mean()))
    assert found["loss"] == pytest.approx(
        -float(np.log(probabilities[np.arange(20), labels]).mean()), rel=1e-3
    )


def test_files_are_weights_and_plain_json(trained: Path) -> None:
    about = json.loads((trained / "best.json").read_text())
    assert (
        about["classes"] == ["low", "mid", "high"]
        and about["image_size"] == 32
        and about["epoch"] == 1
    )
    assert about["config"]["finetune"] == "last_blocks" and len(about["mean"]) == 3
    state = torch.load(trained / "best.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_refuses_what_is_no_export(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="missing or damaged"):
        export(tmp_path / "none", tmp_path / "best.pt")
    with pytest.raises(BadInput, match=r"x\.json"):
        load(tmp_path / "x.pt")
    about = json.loads((trained / "best.json").read_text())
    (tmp_path / "y.json").write_text(json.dumps({**about, "classes": ["one", "two"]}))
    (tmp_path / "y.pt").write_bytes((trained / "best.pt").read_bytes())
    with pytest.raises(BadInput, match="does not fit"):
        load(tmp_path / "y.pt")
    with pytest.raises(BadInput, match="uint8"):
        predict(trained / "best.pt", np.zeros((1, 8, 8, 3)))
