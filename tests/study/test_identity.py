"""A study that goes on is the one that was asked for, by what its space, pool and plan hold."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch
from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Space
from foretune.study.notes import Notes
from foretune.study.plan import Plan, Step
from foretune.study.study import Study

PLAN = Plan("t", "v", "maximize", max_epoch=3, budget=9, open=True)


def space(**parameters):
    return Space(ConfigurationSpace({"lr": Float("lr", (1e-4, 0.1), log=True), **parameters}))


def opened(folder, given=None, configs=(), **change):
    return Study(given or space(), list(configs), replace(PLAN, **change), folder=folder)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (space(lr=Float("lr", (1, 10))), "lr has lower 0.0001, now 1"),
        (space(lr=Float("lr", (1e-4, 0.1), log=True, default=0.01)), "lr has default_value"),
        (space(wd=Float("wd", (0, 1))), "wd is new"),
        (Space(ConfigurationSpace({"wd": Float("wd", (0, 1))})), "lr is gone"),
    ],
)
def test_another_space_is_refused_by_what_differs(tmp_path, other, named):
    opened(tmp_path)
    before = (tmp_path / "space.json").read_bytes()
    with pytest.raises(BadInput, match=named):
        opened(tmp_path, other)
    assert (tmp_path / "space.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": "bohb"}, "method 'random', now 'bohb'"),
        ({"max_epoch": 4}, "max_epoch 3, now 4"),
        ({"open": False}, "open True, now False"),
        ({"notes": Notes(settings={"network": "a"})}, "settings: network None, now 'a'"),
        ({"notes": Notes(options={"eta": 2})}, "options: eta None, now 2"),
        ({"notes": Notes(task_hash="x")}, "other images"),
        ({"task": "u"}, "task 't', now 'u'"),
    ],
)
def test_another_plan_is_refused_by_what_differs(tmp_path, change, named):
    opened(tmp_path)
    with pytest.raises(BadInput, match=named):
        opened(tmp_path, **change)


def test_the_same_images_under_another_name_are_the_same_task(tmp_path):
    notes = Notes(task_hash="x", space="a.json")
    opened(tmp_path, notes=notes)
    assert opened(tmp_path, notes=replace(notes, space="b.json"), task="copy").plan.task == "t"


def test_a_pool_is_compared_by_its_values_not_by_their_types(tmp_path):
    given = space(depth=Integer("depth", (1, 9)))
    opened(tmp_path, given, [{"lr": 0.01, "depth": 4}], open=False)
    same = [{"depth": 4.0, "lr": np.float64(0.01)}]
    assert opened(tmp_path, given, same, open=False).configs == [{"lr": 0.01, "depth": 4}]
    with pytest.raises(BadInput, match='entry 0 is .*"depth": 4.* now .*"depth": 5'):
        opened(tmp_path, given, [{"lr": 0.01, "depth": 5}], open=False)


@pytest.mark.parametrize(
    "equal",
    [1, 1.0, np.int64(1), np.float32(1), torch.tensor(1.0), np.array(1), Decimal(1)],
    ids=repr,
)
def test_equal_configurations_are_one_whatever_type_their_numbers_have(equal, tmp_path):
    names = {"wd": Float("wd", (0, 2)), "depth": Integer("depth", (1, 9))}
    study = opened(tmp_path, space(**names, width=Categorical("width", [1, 2])))
    first = study.propose({"lr": 0.01, "wd": 1, "depth": 1, "width": 1})
    config = {"lr": 0.01, "wd": equal, "depth": equal, "width": equal}
    assert study.propose(config) == study.id_of(config) == first
    assert [type(v) for v in study.configs[0].values()] == [float, float, int, int]
    assert Study.load(tmp_path).id_of(config) == first


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"lr": 5.0}, r"entry 1: lr=5\.0 must be a number from 0\.0001 to 0\.1"),
        ({"lr": "0.01"}, r"entry 1: lr='0\.01' must be a number"),
        ({"lr": 0.01, "x": 1}, "entry 1: unknown hyperparameter 'x'"),
        ({}, "entry 1: the configuration lacks lr"),
        ({"lr": float("nan")}, "entry 1: lr=nan must be"),
        ({"lr": None}, "entry 1: lr=None must be"),
        ({"lr": True}, "entry 1: lr=True must be"),
        ({"lr": np.array([0.01])}, "entry 1: lr=array"),
        (0.01, r"entry 1: 0\.01 must be a mapping"),
    ],
)
def test_a_pool_is_checked_against_its_space(config, named, tmp_path):
    with pytest.raises(BadInput, match=named):
        opened(tmp_path / "s", configs=[{"lr": 0.01}, config], open=False)
    assert not (tmp_path / "s").exists()


def test_false_is_not_zero_and_true_is_not_one():
    flags = space(flag=Categorical("flag", [True, False]), n=Categorical("n", [0, 1, 2]))
    flags.check({"lr": 0.01, "flag": np.bool_(False), "n": np.int8(0)})
    for wrong in ({"flag": 0, "n": 0}, {"flag": False, "n": False}):
        with pytest.raises(BadInput, match="must be one of"):
            flags.check({"lr": 0.01, **wrong})


@pytest.mark.parametrize("options", [[None, "flip", "mix"], ["auto", 1, 0.5], [0.5, 1], [None, 0]])
def test_options_of_any_type_survive_a_study_its_tables_and_what_history_makes_of_them(
    tmp_path, options
):
    given = space(x=Categorical("x", options))
    study = opened(tmp_path, given)
    for k, option in enumerate(options):
        step = Step(study.propose({"lr": 0.01, "x": option}), 0, 1)
        study.tell(step, [0.1 * k])
    study.save_tables()
    past = MetaDataset.load(tmp_path)
    new = Study(past.space, past.configs, PLAN, past=past)
    assert [repr(config["x"]) for config in new.configs] == [repr(option) for option in options]
    assert new.past_ids.tolist() == list(range(len(options)))
    assert np.array_equal(new.X, study.X)
