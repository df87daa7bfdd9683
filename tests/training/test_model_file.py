"""Exported networks predict what the trial's network predicts, and nothing else is accepted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foretune.errors import BadInput
from foretune.tasks.task import Task
from foretune.training.model_file import Model, predict, write_model
from foretune.training.settings import Settings
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
    write_model(folder / "c", folder / "best.pt")
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


def test_the_file_is_tensors_and_says_what_they_are(trained: Path) -> None:
    about = json.loads((trained / "best.json").read_text())
    assert (
        about["classes"] == ["low", "mid", "high"]
        and about["image_size"] == 32
        and about["read_size"] == 24
        and about["epoch"] == 1
    )
    assert about["config"]["finetune"] == "last_blocks" and len(about["mean"]) == 3
    content = torch.load(trained / "best.pt", weights_only=True)
    assert json.loads(content["about"]) == about
    assert all(isinstance(value, torch.Tensor) for value in content["state_dict"].values())


def test_the_model_needs_no_file_beside_it(trained: Path, tmp_path: Path, task: Task) -> None:
    (tmp_path / "x.pt").write_bytes((trained / "best.pt").read_bytes())
    images = task.part("test")[0]
    np.testing.assert_array_equal(
        predict(tmp_path / "x.pt", images), predict(trained / "best.pt", images)
    )


def test_two_files_of_an_earlier_version_are_read(
    trained: Path, tmp_path: Path, task: Task
) -> None:
    content = torch.load(trained / "best.pt", weights_only=True)
    torch.save(content["state_dict"], tmp_path / "old.pt")
    with pytest.raises(BadInput, match="nothing that says what they are"):
        Model.load(tmp_path / "old.pt")
    (tmp_path / "old.json").write_text((trained / "best.json").read_text())
    images = task.part("test")[0]
    np.testing.assert_array_equal(
        predict(tmp_path / "old.pt", images), predict(trained / "best.pt", images)
    )


class Code:
    """What runs code as it is loaded."""

    def __reduce__(self):
        return (print, ("this must not be printed",))


def test_what_could_run_code_is_refused(tmp_path: Path, capsys) -> None:
    torch.save({"about": "{}", "state_dict": Code()}, tmp_path / "x.pt")
    with pytest.raises(BadInput, match="could run code"):
        Model.load(tmp_path / "x.pt")
    assert capsys.readouterr().out == ""


def test_refuses_what_is_no_model(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="missing or damaged"):
        write_model(tmp_path / "none", tmp_path / "best.pt")
    with pytest.raises(BadInput, match=r"no model file .*x\.pt"):
        Model.load(tmp_path / "x.pt")
    content = torch.load(trained / "best.pt", weights_only=True)
    about = json.loads(content["about"])
    for changed, complaint in [
        ({"classes": ["one", "two"]}, "does not fit"),
        ({"classes": "one"}, "must be a list of names"),
        ({"crop": "none"}, "center, squash, pad"),
        ({"image_size": 10**6}, "whole number of pixels"),
    ]:
        torch.save({**content, "about": json.dumps({**about, **changed})}, tmp_path / "y.pt")
        with pytest.raises(BadInput, match=complaint):
            Model.load(tmp_path / "y.pt")
    torch.save({"about": "{}", "state_dict": content["state_dict"]}, tmp_path / "y.pt")
    with pytest.raises(BadInput, match="lacks network, classes, image_size"):
        Model.load(tmp_path / "y.pt")
    (tmp_path / "z.pt").write_bytes((trained / "best.pt").read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"z\.pt"):
        Model.load(tmp_path / "z.pt")
    with pytest.raises(BadInput, match="uint8"):
        predict(trained / "best.pt", np.zeros((1, 8, 8, 3)))
