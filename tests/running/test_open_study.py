"""`foretune tune` on a study that is there: the space counts by what its file holds."""

import json

import pytest
from ConfigSpace import ConfigurationSpace, Float

from foretune.errors import BadInput
from foretune.running.opening import open_study
from foretune.running.request import Request
from foretune.running.space_and_settings import space_of
from foretune.space.space import Space
from foretune.study.notes import Notes
from foretune.study.study import Plan
from foretune.training.settings import Settings


def asked(file, folder, budget=3):
    space, pool = space_of(Request("images", space=str(file)), Settings())
    plan = Plan("t", "v", "maximize", 3, budget, open=True, notes=Notes(space=str(file)))
    return open_study(space, pool, plan, None, folder)


def test_an_edited_space_file_is_refused_and_a_copy_of_it_is_the_same(tmp_path):
    file, folder = tmp_path / "space.json", tmp_path / "study"
    Space(ConfigurationSpace({"lr": Float("lr", (1e-5, 1e-4), log=True)})).save(file)
    asked(file, folder)
    copy = tmp_path / "elsewhere.json"
    described = json.loads(file.read_text(encoding="utf-8"))
    copy.write_text(json.dumps(described, sort_keys=True), encoding="utf-8")
    assert asked(copy, folder, budget=6).budget == 6
    described["hyperparameters"][0] |= {"upper": 0.1}
    file.write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(BadInput, match=r"'study' exists .*another space: lr has upper 0.0001, now"):
        asked(file, folder)
