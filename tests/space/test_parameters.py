"""Hyperparameters and conditions read from ConfigSpace's JSON."""

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from foretune.errors import BadInput
from foretune.space.parameters import (
    Parameter,
    choices,
    coerce,
    from_unit,
    holds,
    parameter,
    parents,
    plain,
    unit,
)

LOG = Parameter("lr", "uniform_float", 1e-2, 1e-4, 1.0, log=True)
WHOLE = Parameter("k", "uniform_int", 3, 1, 9)


def test_plain_turns_numpy_scalars_into_python_ones():
    assert (
        type(plain(np.float32(0.5))) is float
        and type(plain(np.int64(3))) is int
        and type(plain(np.bool_(True))) is bool
    )
    assert plain("x") == "x"


def test_unit_is_logarithmic_where_declared_and_clipped():
    assert unit(np.array([1e-4, 1e-2, 1.0, 5.0]), LOG).tolist() == pytest.approx(
        [0.0, 0.5, 1.0, 1.0]
    )
    assert unit(np.array([1, 5, 9]), WHOLE).tolist() == [0.0, 0.5, 1.0]


def test_from_unit_inverts_unit():
    for position in (0.0, 0.13, 0.5, 1.0):
        assert unit(np.array([from_unit(position, LOG)]), LOG)[0] == pytest.approx(position)
    assert [from_unit(p, WHOLE) for p in (0.0, 0.5, 0.56, 1.0)] == [1, 5, 5, 9]
    assert type(from_unit(0.4, WHOLE)) is int


def test_a_fixed_number_has_position_zero():
    one = Parameter("x", "uniform_float", 2.0, 2.0, 2.0)
    assert unit(np.array([2.0]), one).tolist() == [0.0] and from_unit(0.7, one) == 2.0


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            {"name": "x", "type": "uniform_float", "lower": 2, "upper": 1, "default_value": 1},
            "bounds 2 to 1",
        ),
        (
            {
                "name": "x",
                "type": "uniform_float",
                "lower": 0,
                "upper": 1,
                "log": True,
                "default_value": 1,
            },
            "log scale",
        ),
        ({"name": "x", "type": "quaternion"}, "unknown type 'quaternion'"),
    ],
)
def test_what_is_no_hyperparameter_is_refused(item, message):
    with pytest.raises(BadInput, match=message):
        parameter(item)


def test_choices_are_those_of_categoricals_and_constants_only():
    assert choices(
        parameter({"name": "c", "type": "categorical", "choices": ["a", 2], "default_value": "a"})
    ) == [
        "a",
        2,
    ]
    assert choices(parameter({"name": "c", "type": "constant", "value": 7})) == [7]
    ordinal = parameter(
        {"name": "o", "type": "ordinal", "sequence": ["s", "m"], "default_value": "m"}
    )
    assert choices(ordinal) == [] and ordinal.sequence == ("s", "m")


KNOWN = {
    "size": parameter(
        {
            "name": "size",
            "type": "ordinal",
            "sequence": ["small", "large", "huge"],
            "default_value": "small",
        }
    ),
    "k": WHOLE,
}


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        ({"type": "EQ", "parent": "k", "value": 3}, {"k": 3}, True),
        # an inactive parent meets no condition
        ({"type": "EQ", "parent": "k", "value": 3}, {}, False),
        ({"type": "NEQ", "parent": "k", "value": 3}, {"k": 4}, True),
        ({"type": "NEQ", "parent": "k", "value": 3}, {}, False),
        ({"type": "IN", "parent": "k", "values": [1, 2]}, {"k": 2}, True),
        ({"type": "LT", "parent": "k", "value": 3}, {"k": 2}, True),
        ({"type": "GT", "parent": "k", "value": 3}, {"k": 3}, False),
        # "large" > "huge" as texts
        ({"type": "LT", "parent": "size", "value": "huge"}, {"size": "large"}, True),
        ({"type": "GT", "parent": "size", "value": "large"}, {"size": "small"}, False),
    ],
)
def test_conditions(condition, values, expected):
    assert holds(condition, values, KNOWN) is expected


def test_conjunctions_nest():
    both = {
        "type": "AND",
        "conditions": [
            {"type": "EQ", "parent": "a", "value": 1},
            {"type": "EQ", "parent": "b", "value": 2},
        ],
    }
    either = {"type": "OR", "conditions": [both, {"type": "EQ", "parent": "c", "value": 3}]}
    assert list(parents(either)) == ["a", "b", "c"]
    assert (
        holds(either, {"a": 1, "b": 2}, {})
        and holds(either, {"c": 3}, {})
        and not holds(either, {"a": 1}, {})
    )


def test_an_unknown_condition_is_refused():
    with pytest.raises(BadInput, match="unknown type 'XOR'"):
        holds({"type": "XOR", "child": "x", "parent": "k"}, {"k": 1}, KNOWN)


def test_every_kind_that_configspace_writes_is_known():
    from ConfigSpace.read_and_write.dictionary import CONDITION_DECODERS, HYPERPARAMETER_DECODERS

    for kind in HYPERPARAMETER_DECODERS:
        item = {
            "name": "x",
            "type": kind,
            "lower": 1,
            "upper": 2,
            "choices": [1],
            "sequence": [1],
            "value": 1,
            "default_value": 1,
        }
        assert parameter(item).kind == kind
    for kind in CONDITION_DECODERS:
        nested = {"type": "EQ", "parent": "k", "value": 3}
        condition = {
            "type": kind,
            "parent": "k",
            "value": 3,
            "values": [3],
            "conditions": [nested, nested],
        }
        assert isinstance(holds(condition, {"k": 3}, KNOWN), bool)
    assert ConfigurationSpace({"x": (0.0, 1.0)}).to_serialized_dict()["format_version"] == 0.4


@pytest.mark.parametrize(
    ("kind", "value", "want"),
    [
        (bool, True, True),
        (int, 3, 3),
        (int, np.int64(3), 3),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (str, "a", "a"),
        (tuple, [1, 2], (1, 2)),
    ],
)
def test_a_value_becomes_one_of_its_kind_without_loss(kind, value, want):
    got = coerce(kind, value, "x")
    assert got == want and type(got) is kind


@pytest.mark.parametrize(
    ("kind", "value", "right"),
    [
        (bool, 1, "true or false"),
        (int, True, "a whole number"),
        (int, 3.0, "a whole number"),
        (int, "3", "a whole number"),
        (float, False, "a number"),
        (float, float("nan"), "a number"),
        (float, float("inf"), "a number"),
        (float, "0.5", "a number"),
        (str, 3, "a text"),
        (tuple, "abc", "a list"),
    ],
)
def test_a_value_of_another_kind_is_refused(kind, value, right):
    with pytest.raises(BadInput, match=f"^x must be {right}, such as y, but got "):
        coerce(kind, value, "x", ", such as y")
