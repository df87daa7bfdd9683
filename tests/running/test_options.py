"""A dataclass as options of a command line and of a call."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from foretune.errors import BadInput
from foretune.running.options import (
    add_options,
    assignments,
    filled,
    flag_of,
    given,
    options_of,
    out_of_range,
    split_names,
)
from foretune.running.request import Request


@dataclass(frozen=True)
class Inner:
    depth: int = field(default=3, metadata={"help": "how deep"})
    warm: bool = field(default=True, metadata={"help": "warm", "off": ("--cold", "not warm")})


@dataclass(frozen=True)
class Asked:
    what: str = field(metadata={"help": "the thing"})
    count: int | None = field(default=None, metadata={"help": "how many", "least": 1})
    share: float = field(default=0.5, metadata={"help": "how much", "above": 0})
    names: tuple[str, ...] | None = field(default=None, metadata={"help": "which"})
    dry: bool = field(default=False, metadata={"help": "do nothing", "group": "care"})
    careful: bool = field(
        default=True, metadata={"help": "with care", "off": ("--hasty", "without"), "group": "care"}
    )
    more: dict[str, Any] = field(default_factory=dict, metadata={"help": "x", "flag": "--add"})
    inner: dict[str, Any] = field(default_factory=dict, metadata={"help": "x", "fields": Inner})
    place: Path = field(default=Path("data"), metadata={"help": "where", "env": "ASKED_PLACE"})


def parsed(*line):
    parser = argparse.ArgumentParser()
    add_options(parser, Asked)
    return Asked(**given(Asked, parser.parse_args(line)))


def test_a_line_that_says_nothing_is_the_defaults(monkeypatch):
    monkeypatch.delenv("ASKED_PLACE", raising=False)
    assert parsed("x") == Asked("x")
    monkeypatch.setenv("ASKED_PLACE", "/there")
    assert parsed("x") == Asked("x", place=Path("/there"))
    assert parsed("x", "--place", "here").place == Path("here")


def test_python_and_json_take_a_default_from_the_environment_too(monkeypatch):
    monkeypatch.setenv("ASKED_PLACE", "/there")
    assert filled(Asked, {"what": "x"}).place == Path("/there")
    assert filled(Asked, {"what": "x", "place": "here"}).place == Path("here")
    monkeypatch.delenv("ASKED_PLACE")
    assert filled(Asked, {"what": "x"}).place == Path("data")


def test_every_kind_of_field_has_its_option():
    line = [
        "x",
        "--count",
        "2",
        "--share",
        "1.5",
        "--names",
        "a,b",
        "--dry",
        "--hasty",
        "--add",
        "k=1",
        "--depth",
        "4",
        "--cold",
    ]
    assert parsed(*line) == Asked(
        "x", 2, 1.5, ("a", "b"), True, False, {"k": 1}, {"depth": 4, "warm": False}
    )
    parser = argparse.ArgumentParser()
    add_options(parser, Asked)
    text = parser.format_help()
    assert all(
        option["help"] in text for option in options_of(Asked, leave=("careful", "inner", "more"))
    )
    assert "care:" in text and "without" in text and "not warm" in text


def test_values_from_json_take_their_fields_types():
    values = {"what": "x", "share": 2, "names": ["a"], "place": "there", "inner": {"depth": 4}}
    assert filled(Asked, values) == Asked(
        "x", share=2.0, names=("a",), place=Path("there"), inner={"depth": 4}
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"what": "x", "cuont": 1}, "unknown option 'cuont' .did you mean count"),
        ({"count": 1}, "what must be given: the thing"),
        ({"what": "x", "count": "2"}, "count='2' must be a whole number"),
        ({"what": "x", "count": True}, "count=True must be a whole number"),
        ({"what": "x", "dry": 1}, "dry=1 must be true or false"),
        ({"what": "x", "names": "a,b"}, "names='a,b' must be a list of names"),
        ({"what": "x", "share": None}, "share=None must be a number"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(BadInput, match=message):
        filled(Asked, values)


def test_numbers_out_of_range_are_named():
    assert list(out_of_range(Asked("x", count=1, share=0.1))) == []
    assert list(out_of_range(Asked("x", count=0, share=0.0))) == [
        "count=0 must be at least 1",
        "share=0.0 must be positive",
    ]


def test_options_are_numbers_booleans_lists_or_texts():
    assert assignments(["eta=2", "x=0.5", "warm=true", "first=[1, 2]", "name=abc", "empty="]) == {
        "eta": 2,
        "x": 0.5,
        "warm": True,
        "first": [1, 2],
        "name": "abc",
        "empty": "",
    }
    for bad in ("eta", "=3"):
        with pytest.raises(BadInput, match="must be NAME=VALUE, such as eta=2"):
            assignments([bad])


def test_names_are_separated_by_commas():
    assert split_names("") == () and split_names("a, b,,c ") == ("a", "b", "c")


def test_python_and_the_command_line_call_everything_by_one_name():
    """A repeated flag is in the singular; one that turns something off has `no-` before it."""
    for option in options_of(Request, leave=("images", "settings", "script")):
        name = flag_of(option.name).removeprefix("--")
        assert option.flag in (f"--{name}", f"--{name.removesuffix('s')}", f"--no-{name}")
