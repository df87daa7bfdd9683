"""One description of a request: no surface lacks a field of it."""

import argparse
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import inbox
import meta_dataset
import pytest
import tune
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate

from foretune.commands.cli import parser
from foretune.pipeline import meta_dataset as stage
from foretune.running.request import CollectionRequest, Request
from foretune.running.scripts.options import Script
from foretune.running.tuning import request_from
from foretune.training.settings import Settings

# what a surface leaves out, and why
LEFT_OUT = {
    "inbox": {
        "images": "the dataset that was dropped",
        "study": "named after the dataset",
        "script": "whoever drops a dataset must not name a command",
    }
}
# what only flows have: where a study runs and is logged
OWN = {
    "tune": {"tracking", "runner", "gpus", "storage"},
    "inbox": {"inbox", "quiet", "tracking", "runner"},
    "meta-dataset": set(),
}


class Parsed(Exception):
    """What a script would have done with its options."""

    def __init__(self, names: set[str]):
        super().__init__()
        self.names = names


def dests(main: Callable[[list[str]], Any], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of a script's options."""

    def stop(self: argparse.ArgumentParser, *_: Any) -> None:
        raise Parsed({action.dest for action in self._actions})

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed) as found:
        main([])
    return found.value.names


def names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


@pytest.mark.parametrize(
    ("flow", "kind"),
    [
        (tune.tune, Request),
        (inbox.inbox, Request),
        (meta_dataset.meta_dataset, CollectionRequest),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_a_flows_parameters_are_the_requests_fields(flow: Flow[Any, Any], kind: type) -> None:
    asked = names(kind) - set(LEFT_OUT.get(flow.name, {}))
    assert set(inspect.signature(flow.fn).parameters) == asked | OWN[flow.name]
    properties = parameter_schema(flow).model_dump_for_openapi()["properties"]
    helps = {field.name: field.metadata["help"] for field in fields(kind)}
    own = {"images", "data"}  # the flow says it in words of its own
    for name in asked - own:
        assert properties[name]["description"] == helps[name]


def test_a_form_refuses_what_the_fields_refuse() -> None:
    schema = parameter_schema(tune.tune).model_dump_for_openapi()
    for wrong in ({"workers": 0}, {"minutes": 0}, {"seed": -1}, {"open": 1}, {"sources": "a"}):
        assert validate({"images": "x", **wrong}, schema), wrong
    fine = {"workers": 1, "minutes": 0.5, "open": True, "sources": ["a"], "options": {"eta": 2}}
    assert not validate({"images": "x", **fine}, schema)


def test_the_scripts_of_the_flows_have_all_options(monkeypatch: pytest.MonkeyPatch) -> None:
    request = (names(Request) - {"settings", "script"}) | names(Settings)
    assert request | names(Script) <= dests(tune.main, monkeypatch)
    given = dests(inbox.main, monkeypatch)
    assert request - set(LEFT_OUT["inbox"]) <= given
    assert not names(Script) & given
    assert names(CollectionRequest) <= dests(meta_dataset.main, monkeypatch)
    assert names(CollectionRequest) <= dests(stage.main, monkeypatch)


def test_the_command_line_has_all_options() -> None:
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    found = {action.dest for action in commands.choices["tune"]._actions}
    request = (names(Request) - {"settings", "script"}) | names(Settings) | names(Script)
    assert found == request | {"help", "tracking"}


def test_python_takes_all_options() -> None:
    for field in fields(Request):
        if field.name != "images":
            value = getattr(Request("x"), field.name)
            assert request_from("x", **{field.name: value}) == Request("x")
    for field in fields(Settings):
        value = getattr(Settings(), field.name)
        assert request_from("x", **{field.name: value}) == Request(
            "x", settings={field.name: value}
        )


def test_every_field_says_what_it_is() -> None:
    for kind in (Request, CollectionRequest, Settings):
        for field in fields(kind):
            assert len(field.metadata["help"]) > 5, field.name
