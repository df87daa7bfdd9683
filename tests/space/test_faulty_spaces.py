"""A file that describes no space is refused in one line that names what is wrong."""

import json

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.space.space import Space

LR = {
    "type": "uniform_float",
    "name": "lr",
    "lower": 0.001,
    "upper": 0.1,
    "default_value": 0.01,
    "log": True,
}
OPT = {"type": "categorical", "name": "opt", "choices": ["adam", "sgd"], "default_value": "adam"}
INT = {"type": "uniform_int", "name": "n", "lower": 1, "upper": 4, "default_value": 2}
FORBIDDEN = {"name": "opt", "type": "EQUALS", "value": "adam"}


def described(*items, **rest):
    return {"format_version": 0.4, "hyperparameters": list(items), **rest}


@pytest.mark.parametrize("version", [0.4, 0.2], ids=["this format", "an old one"])
@pytest.mark.parametrize(
    ("items", "rest", "named"),
    [
        ([LR | {"lower": 1.0}], {}, r"'lr' has bounds 1\.0 to 0\.1"),
        ([LR | {"lower": 0}], {}, "bounds 0 to 0.1 on a log scale"),
        ([LR | {"lower": "0.001"}], {}, "'lr' has lower '0.001'; it must be a finite number"),
        ([LR | {"upper": float("inf")}], {}, "'lr' has upper inf"),
        ([LR | {"default_value": 5}], {}, "'lr' has the default 5, which is not from"),
        ([LR | {"q": 0.001}], {}, "'lr' moves in steps of q=0.001"),
        ([INT | {"q": 2}], {}, "'n' moves in steps of q=2"),
        ([INT | {"lower": 1.5}], {}, "'n' has lower 1.5; it must be a whole number"),
        ([INT | {"upper": 2**64}], {}, "tables hold 64 bits"),
        ([OPT | {"choices": []}], {}, "'opt' must have a list of choices that is not empty"),
        ([OPT | {"choices": ["adam", "adam"]}], {}, "'adam' and the equal 'adam'"),
        ([OPT | {"choices": [0, False, "adam"]}], {}, "False and the equal 0"),
        (
            [OPT | {"choices": ["adam", [0.9, 0.99]]}],
            {},
            r"'opt' has the value \[0.9, 0.99\]; it must",
        ),
        ([LR | {"type": "constant", "value": {"low": 1}}], {}, "'lr' has the value {'low': 1}"),
        ([OPT | {"choices": ["adam", "\ud800"]}], {}, "'opt' has '.ud800', which is no text"),
        ([LR | {"log": "no"}], {}, "'lr' has log 'no'; it must be true or false"),
        ([OPT | {"default_value": "rms"}], {}, "'opt' has the default 'rms', which is not one of"),
        ([LR, OPT, LR], {}, "two hyperparameters are named 'lr'"),
        ([LR | {"type": "magic"}], {}, "unknown type 'magic'"),
        ([LR | {"name": "config_id"}], {}, "cannot be named 'config_id'"),
        ([LR | {"name": "seed"}], {}, "cannot be named 'seed'.*my_seed"),
        ([LR | {"name": "l(r)"}, LR | {"name": "l[r]"}], {}, "would become one in MLflow"),
        ([LR, OPT], {"forbiddens": [FORBIDDEN]}, "orbidden"),
        ([LR, OPT], {"forbiddens": [FORBIDDEN | {"name": "zz"}]}, "unknown hyperparameter 'zz'"),
        (
            [LR, OPT],
            {"conditions": [{"child": "lr", "parent": "zz", "type": "EQ", "value": 1}]},
            "unknown hyperparameter 'zz'",
        ),
        (
            [LR, OPT],
            {"conditions": [{"child": "lr", "parent": "opt", "type": "EQ", "value": "rms"}]},
            "asks for opt='rms', which is not one of 'adam', 'sgd'",
        ),
    ],
)
def test_a_faulty_space_is_refused_in_one_line(tmp_path, version, items, rest, named):
    file = tmp_path / "space.json"
    file.write_text(json.dumps(described(*items, **rest) | {"format_version": version}))
    with pytest.raises(BadInput, match=named) as refused:
        Space.load(file)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("item", "value"),
    [(LR | {"upper": 0.001, "default_value": 0.001}, 0.001)],
    ids=["equal bounds"],
)
def test_equal_bounds_are_a_constant(tmp_path, item, value):
    file = tmp_path / "space.json"
    file.write_text(json.dumps(described(item, OPT)))
    space = Space.load(file)
    drawn = space.sample(4, np.random.default_rng(0))
    assert {config["lr"] for config in drawn} == {value}
    space.check(drawn[0])
    space.save(tmp_path / "again.json")
    assert Space.load(tmp_path / "again.json") == space


def test_a_byte_order_mark_is_no_fault(tmp_path):
    file = tmp_path / "space.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(described(LR)).encode())
    assert Space.load(file).names == ["lr"]


def test_a_step_of_one_between_whole_numbers_is_none(tmp_path):
    file = tmp_path / "space.json"
    file.write_text(json.dumps(described(INT | {"q": 1})))
    drawn = Space.load(file).sample(50, np.random.default_rng(0))
    assert {config["n"] for config in drawn} == {1, 2, 3, 4}


@pytest.mark.parametrize("content", ["[]", "{}", '{"hyperparameters": 3}', "nothing", "\xff"])
def test_what_is_no_space_is_refused(tmp_path, content):
    file = tmp_path / "space.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput, match="space.json"):
        Space.load(file)


def test_a_space_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(BadInput, match="IsADirectoryError"):
        Space.load(tmp_path)


@pytest.mark.parametrize("version", [9, "x", True])
def test_an_unknown_format_is_refused(tmp_path, version):
    file = tmp_path / "space.json"
    file.write_text(json.dumps({**described(LR), "format_version": version}), encoding="utf-8")
    with pytest.raises(BadInput, match="format_version .* is unknown; the newest read is 0.4"):
        Space.load(file)
