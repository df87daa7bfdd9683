"""Edit a study and go on: what of it is kept as trials, what as runs, and what the user is asked
again.
"""

from dataclasses import asdict, replace

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, Float

from foretune.errors import BadInput
from foretune.running.continuing import NOTE
from foretune.running.preparation import checked, looked_up, prepared
from foretune.running.request import Request
from foretune.space.space import Space
from foretune.study.notes import Notes
from foretune.study.study import Plan, Step, Study
from foretune.tasks.task import Task
from foretune.training.settings import Settings

SETTINGS = {
    "network": "shufflenet_v2_x05",
    "pretrained": False,
    "image_size": 32,
    "train_limit": 32,
    "valid_limit": 0,
    "max_epoch": 2,
}
RATES = (0.001, 0.003, 0.01, 0.03)


def space(low=1e-4, high=1e-1, optimizers=("sgd", "adam"), *more):
    """A rate, an optimizer, and more."""
    found = ConfigurationSpace()
    found.add([Float("learning_rate", (low, high), log=True), *more])
    found.add(Categorical("optimizer", list(optimizers)))
    return Space(found)


@pytest.fixture
def asked(tiny_task, tmp_path):
    """A request beside the study `old` of the same images: four trials, the last one cut, with the
    network of the third, which is best.
    """
    data = tmp_path / "data"
    settings = {**asdict(Settings()), **SETTINGS}
    notes = Notes(task_hash=Task.load(tiny_task).hash, settings=settings, space="s.yaml")
    plan = Plan("tiny", "valid_accuracy", "maximize", 2, 8, "hyperband", open=True, notes=notes)
    configs = [{"learning_rate": r, "optimizer": "adam"} for r in RATES]
    folder = data / "studies" / "old"
    with Study(space(), configs, plan, folder=folder) as study:
        for i in range(3):
            study.tell(Step(i, 0, 2), [0.4, 0.5 + i / 10])
        study.tell(Step(3, 0, 2), [0.6])
        study.save_tables()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "trial-2.best.ckpt").write_bytes(b"third")
    return Request(
        images=str(tiny_task),
        budget=6,
        meta="none",
        data=data,
        continue_from="old",
        own_studies=False,
    )


def file_of(found, tmp_path):
    """The space as a file."""
    found.save(tmp_path / "edited.json")
    return str(tmp_path / "edited.json")


def test_a_widened_range_keeps_every_trial(asked, tmp_path):
    wider = replace(
        asked, space=file_of(space(high=1.0, optimizers=("sgd", "adam", "adamw")), tmp_path)
    )
    with prepared(wider) as ready:
        study = ready.study
        assert ready.folder.name == "old-next" and study.plan.notes.settings["image_size"] == 32
        assert [c["learning_rate"] for c in study.configs] == list(RATES)
        np.testing.assert_allclose(study.Y[:3, 1], [0.5, 0.6, 0.7])
        assert study.epoch.tolist() == [2, 2, 2, 1]
        assert study.spent == 7 and study.budget == 6 + 7
        assert ready.objective.checkpoint(2, best=True).read_bytes() == b"third"
        assert any(
            "4 of its 4 trials are kept as they are (7 epochs)" in line for line in ready.told
        )
    with prepared(wider) as ready:  # the same command goes on
        assert ready.study.spent == 7 and ready.study.budget == 13 and len(ready.study.configs) == 4


def test_other_images_are_refused_and_another_size_of_the_same_is_not(asked, tiny_task, tmp_path):
    task = Task.load(tiny_task)
    task.save(asked.data / "studies" / "old" / "task.npz")
    other = tmp_path / "other.npz"
    replace(task, images=255 - task.images).save(other)
    for more in (
        {},
        {"settings": {"network": "resnet18"}},
    ):  # with trials that are kept, and without
        with pytest.raises(BadInput, match="--continue-from old: it was tuned on other images"):
            looked_up(checked(replace(asked, images=str(other), **more)))
    assert not (asked.data / "studies" / "old-next").exists()
    half, smaller = task.images[:, ::2, ::2], {"settings": {"image_size": 16}}
    replace(task, images=half).save(other)
    coarse = looked_up(checked(replace(asked, images=str(other), **smaller)))
    assert coarse.task.hash != task.hash and coarse.checked.kept == ()
    swapped = tmp_path / "swapped.npz"
    replace(task, images=half, labels=np.roll(task.labels, 1)).save(swapped)
    with pytest.raises(BadInput, match="other images, labels or parts"):
        looked_up(checked(replace(asked, images=str(swapped), **smaller)))


def test_a_narrowed_range_keeps_the_trials_inside_it_and_the_others_as_runs(asked, tmp_path):
    narrow = replace(asked, space=file_of(space(low=2e-3), tmp_path))
    with prepared(narrow) as ready:
        assert [c["learning_rate"] for c in ready.study.configs] == list(RATES[1:])
        noted = ready.study.plan.notes.extra[NOTE]
        assert noted == {"study": "old", "trials": [[0, 1, 2], [1, 2, 2], [2, 3, 1]]}


def test_a_new_hyperparameter_has_the_value_that_it_had(asked, tmp_path):
    more = space(1e-4, 1e-1, ("sgd", "adam"), Float("label_smoothing", (0.0, 0.2)))
    found = looked_up(checked(replace(asked, space=file_of(more, tmp_path))))
    assert [c["label_smoothing"] for c in found.checked.pool] == [0.0] * 4
    beyond = space(1e-4, 1e-1, ("sgd", "adam"), Float("label_smoothing", (0.05, 0.2)))
    found = looked_up(checked(replace(asked, space=file_of(beyond, tmp_path))))
    assert found.checked.pool == [] and any("0 of its 4 trials" in line for line in found.told)


def test_what_is_fixed_now_keeps_the_trials_that_had_it(asked):
    fixed = looked_up(checked(replace(asked, settings={"fix": {"optimizer": "adam"}})))
    assert len(fixed.checked.pool) == 4
    other = looked_up(checked(replace(asked, settings={"fix": {"mixup": 0.2}})))
    assert other.checked.pool == []


def test_another_network_keeps_the_trials_as_runs(asked):
    other = replace(asked, settings={"network": "resnet18"})
    found = looked_up(checked(other))
    assert found.checked.pool == [] and found.plan.notes.settings["image_size"] == 32
    assert set(found.lessons.table["task"]) == {"studies/old"} and len(found.lessons.table) == 4
    assert any("network resnet18 in none" in line for line in found.leaning)


def test_a_trial_that_could_not_be_handed_over_is_trained_again(asked):
    (asked.data / "studies/old/checkpoints/trial-2.best.ckpt").rename(
        asked.data / "studies/old/checkpoints/trial-0.best.ckpt"
    )
    found = looked_up(checked(asked))
    assert [c["learning_rate"] for c in found.checked.pool] == [RATES[0]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"continue_from": "older"}, "--continue-from 'older' is no study in"),
        ({"study": "old"}, "an edited one needs another name"),
    ],
)
def test_what_cannot_be_continued_is_refused(asked, change, line):
    with pytest.raises(BadInput, match=line):
        checked(replace(asked, **change))
