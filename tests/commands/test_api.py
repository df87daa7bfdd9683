"""`foretune.tune` from Python: what it takes for a search space."""

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

import foretune
from foretune.commands.api import space_of
from foretune.errors import BadInput
from foretune.space.space import Space

WRITTEN = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True, "default": 1e-2},
    "optimizer": ["adamw", "sgd"],
    "width": {"low": 8, "high": 64, "default": 16},
}
OBJECTS = {
    "lr": Float("lr", (1e-4, 1e-1), log=True, default=1e-2),
    "width": Integer("width", (8, 64), default=16),
    "optimizer": Categorical("optimizer", ["adamw", "sgd"], default="adamw"),
}


@pytest.mark.parametrize(
    "given",
    [
        WRITTEN,
        {**WRITTEN, "width": {"low": np.int64(8), "high": np.int32(64), "default": 16}},
        {**WRITTEN, "optimizer": ("adamw", "sgd")},
        OBJECTS,
        ConfigurationSpace(space=list(OBJECTS.values())),
        Space(ConfigurationSpace(space=list(OBJECTS.values()))),
        Space(ConfigurationSpace(space=list(OBJECTS.values()))).described,
    ],
    ids=["entries", "numpy", "tuple", "objects", "ConfigSpace", "Space", "description"],
)
def test_a_space_may_be_given_as_people_have_it(given) -> None:
    assert not Space(ConfigurationSpace(space=list(OBJECTS.values()))).differences(space_of(given))


def test_a_tuple_of_two_numbers_is_a_range() -> None:
    assert not space_of({"a": (0.0, 1.0)}).differences(space_of({"a": {"low": 0.0, "high": 1.0}}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "must have entries"),
        (["lr"], "is of type list"),
        ({"lr": {"low": 1, "hi": 2}}, "unknown word 'hi'"),
        ({"lr": (1.0, 0.1)}, "low must be below high"),
        ({"lr": None}, "entry lr is empty"),
        ({1: [1, 2]}, "has no name"),
        ({"lr": object()}, "entry lr"),
    ],
)
def test_a_space_that_is_none_is_refused_in_words(given, said) -> None:
    with pytest.raises(BadInput, match=said):
        space_of(given)


def test_images_take_a_name_or_a_path(tmp_path) -> None:
    with pytest.raises(BadInput, match="preset's name or the path"):
        foretune.tune(tmp_path, WRITTEN, budget=1)
