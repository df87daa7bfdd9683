"""The table of methods."""

import importlib
import inspect
import subprocess
import sys

import pytest

from foretune.errors import BadInput
from foretune.searchers.base import Searcher
from foretune.searchers.registry import (
    DEFAULT,
    DEFAULT_WITHOUT_PAST,
    METHODS,
    method,
    searcher,
)


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_is_there_under_its_own_name_and_documented(name):
    made = searcher(name)
    variant_of = method(made.name)  # the entry whose class it is, where it is one with options set
    assert isinstance(made, Searcher)
    assert made.name == name or (METHODS[name].options and METHODS[name].where == variant_of.where)
    kind = type(made)
    assert kind.__doc__ and METHODS[name].where == f"{kind.__module__}:{kind.__name__}"
    assert 20 <= len(METHODS[name].about) <= 100 and not METHODS[name].about.endswith(".")
    for option in inspect.signature(kind).parameters.values():
        assert option.default is not inspect.Parameter.empty, (
            f"option {option.name} of {name} has no default"
        )


def test_the_defaults_are_methods_and_only_one_needs_past_tasks():
    assert method(DEFAULT).needs_past and not method(DEFAULT_WITHOUT_PAST).needs_past


def test_a_near_name_is_suggested():
    with pytest.raises(
        BadInput,
        match=r"unknown method 'hyperbrand' \(did you mean hyperband\?\); there are random,",
    ):
        method("hyperbrand")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"etta": 3}, "method 'hyperband' has no option 'etta'; it has eta, R, first"),
        ({"eta": "abc"}, "option eta='abc' of method 'hyperband' must be a number, such as 3.0"),
        ({"eta": True}, "option eta=True"),
        ({"eta": 1}, "eta=1 must be above 1"),
        ({"first": 5}, r"option first=5 of method 'hyperband' must be a list"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(BadInput, match=message):
        searcher("hyperband", **options)


def test_options_reach_the_searcher():
    made = searcher("hyperband", eta=2, R=16, first=[3])
    assert (made.eta, made.most_epochs, made.first) == (2, 16, [3]) and searcher(
        "portfolio", size=7
    ).size == 7


def test_the_table_loads_no_method():
    code = (
        "import sys, foretune.searchers.registry;"
        "loaded = [m for m in sys.modules if m.startswith('foretune.searchers.')];"
        "sys.exit(loaded != ['foretune.searchers.base', 'foretune.searchers.registry'])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_searcher_module_is_in_the_table_or_a_part_of_one():
    modules = {entry.where.partition(":")[0] for entry in METHODS.values()}
    for name in modules:
        assert importlib.import_module(name).__doc__
