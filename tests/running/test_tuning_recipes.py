"""What a request says of space, knobs, network and metric: refused in time, or carried out."""

import json

import pytest
import yaml
from inline import Inline

from foretune.errors import BadInput
from foretune.files import write_json
from foretune.running.preparation import checked, prepared
from foretune.running.request import Request
from foretune.running.tuning import finish, run
from foretune.space.catalogue import transfer_pool
from foretune.training.metrics import GOALS

SETTINGS = {
    "network": "shufflenet_v2_x05", "image_size": 32, "pretrained": False, "batch_size": 16,
    "max_epoch": 2, "train_limit": 32, "valid_limit": 0, "device": "cpu",
}  # fmt: skip
SPACE = """
learning_rate: {low: 1e-4, high: 1e-2, log: true}
optimizer: [adamw, sgd]
momentum: {low: 0.8, high: 0.95, if: optimizer == sgd}
network: [shufflenet_v2_x05, test_efficientnet]
"""


@pytest.fixture
def request_of(tmp_path):
    """A request for images that are not there, which nothing may look for."""

    def make(settings=None, **more):
        return Request(
            **{
                "images": str(tmp_path / "no-images"),
                "budget": 4,
                "meta": "none",
                "method": "random",
                "data": tmp_path / "data",
                "settings": {**SETTINGS, **(settings or {})},
                **more,
            }
        )

    return make


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"metric": "macrof1"}, "did you mean macro_f1"),
        ({"space": "stronk"}, "neither transfer, quick, standard, strong"),
        ({"settings": {"network": "convnext_tinny"}}, "did you mean convnext_tiny"),
        ({"settings": {"fix": {"mixup": -1}}}, "--fix mixup=-1 must be a number, 0 or more"),
        ({"settings": {"fix": {"mixupp": 1}}}, "does not know 'mixupp'"),
        ({"settings": {"fix": {"optimizer": "sgdd"}}}, "did you mean sgd"),
        ({"settings": {"fix": {"mixup": 1}}, "space": "hyperrec"}, "names of its own"),
        ({"space": "standard", "settings": {"max_epoch": 2}}, "must be below the 2 epochs"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_images_are_looked_for(request_of, more, said):
    with pytest.raises(BadInput, match=said):
        checked(request_of(**more))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate: {low: 1, high: 2}\noptimiser: [sgd]", "did you mean optimizer"),
        ("learning_rate: [0.1]", "lacks optimizer"),
        ("learning_rate: [0.1]\noptimizer: [sgd, adamm]", "did you mean adam"),
        ("learning_rate: [0.1]\noptimizer: [sgd]\nbatch_size: {low: 1.5, high: 8}", "batch_size"),
    ],
)
def test_a_faulty_space_is_refused_before_images_are_looked_for(request_of, tmp_path, text, said):
    (tmp_path / "space.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        checked(request_of(space=str(tmp_path / "space.yaml")))


def test_what_is_fixed_leaves_its_part_of_the_pool(request_of):
    found = checked(request_of({"fix": {"optimizer": "sgd", "mixup": 0.2}}))
    assert found.pool == [one for one in transfer_pool() if one["optimizer"] == "sgd"]
    assert found.space.parameters["optimizer"].options == ("sgd",)
    found = checked(request_of({"fix": {"optimizer": "adamw"}}))
    assert len(found.pool) == 36 and {one["optimizer"] for one in found.pool} == {"adamw"}


def test_a_metric_has_its_direction_and_its_own_past(request_of):
    found = checked(request_of(metric="log_loss"))
    assert (found.plan.metric, found.plan.goal) == ("valid_log_loss", "minimize")
    found = checked(request_of(metric="macro_f1", meta="light", method=None))
    assert found.past is None and any("valid_macro_f1" in line for line in found.told)
    found = checked(request_of(meta="light"))
    assert found.past is not None and not any("says little" in line for line in found.told)


def test_a_study_of_another_metric_in_a_written_space(request_of, tiny_task, tmp_path):
    """The lowest loss wins, its epoch's network is handed over, every metric stands beside it."""
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    request = request_of(
        images=str(tiny_task), space=str(tmp_path / "space.yaml"), metric="log_loss"
    )
    with prepared(request) as ready:
        run(ready, workers=Inline(ready.objective))
        tuned = finish(ready)
        rows = [row for rows in ready.study.rows.values() for row in rows]
    assert tuned.metric == "log_loss"
    assert tuned.valid_value == pytest.approx(min(row["valid_log_loss"] for row in rows))
    best = yaml.safe_load((tuned.folder / "best.yaml").read_text(encoding="utf-8"))
    assert best["metric"] == "log_loss" and set(best["test"]) == set(best["valid"]) == set(GOALS)
    assert best["network"] == best["config"]["network"]
    about = json.loads((tuned.folder / "best.json").read_text(encoding="utf-8"))
    assert about["network"] == best["network"] and about["epoch"] == tuned.epoch
    assert tuned.test_value == pytest.approx(best["test"]["log_loss"], abs=1e-6)


def test_old_studies_without_the_new_settings_go_on(request_of, tiny_task):
    """A study's notes from before there were weights, compile and fix ask the same question."""
    request = request_of(images=str(tiny_task), study="old", space="heavy", budget=1)
    with prepared(request) as ready:
        folder = ready.folder
    header = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    settings = (
        header["plan"]["notes"]["settings"] if "plan" in header else header["notes"]["settings"]
    )
    del header["check"]  # of a header from before there were checksums
    for name in ("weights", "compile", "fix"):
        del settings[name]
    write_json(folder / "study.json", header)
    with prepared(request) as ready:
        assert ready.study.budget == 1
