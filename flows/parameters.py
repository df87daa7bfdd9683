"""The parameters of a flow, from the fields of a dataclass: their types, defaults and descriptions,
as Prefect's form shows them.

    @flow(name="tune")
    @takes(Request)
    def tune(images: str, tracking: str | None = None, **given: Any) -> Tuned:
        request = filled(Request, {"images": images, **present(given)})

Values are JSON's: a path is a text, and what may be left out is null.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from foretune.running.options import Option, options_of
from foretune.searchers.registry import METHODS

F = TypeVar("F", bound=Callable[..., Any])
JSON: dict[type, Any] = {Path: str, tuple: list[str], dict: dict[str, Any]}
CHOICES = {"method": list(METHODS)}  # of the form, by the field's name


def takes(kind: type, leave: Collection[str] = ()) -> Callable[[F], F]:
    """Give a function whose last parameter is `**given` the fields of a dataclass as parameters,
    after its own, and their help as the `Args:` that end its docstring.
    """

    def signed(function: F) -> F:
        own = [
            one
            for one in inspect.signature(function).parameters.values()
            if one.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        options = options_of(kind, {*leave, *(one.name for one in own)})
        added = [parameter(option) for option in options]
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(one for one in own), *added],
            return_annotation=inspect.signature(function).return_annotation,
        )
        lines = [f"    {option.name}: {option['help']}" for option in options]
        function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), *lines])
        return function

    return signed


def parameter(option: Option) -> inspect.Parameter:
    """A field as a keyword of a flow."""
    limits = {"ge": option["least"], "gt": option["above"]}
    said = {name: limit for name, limit in limits.items() if limit is not None}
    if option.name in CHOICES:
        said["json_schema_extra"] = {"enum": CHOICES[option.name]}
    type_: Any = JSON.get(option.kind, option.kind)
    type_ = Annotated[type_, Field(**said)] if said else type_
    default = as_json(option.default)
    if option.optional or option.kind in (tuple, dict):
        type_, default = type_ | None, default or None
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=type_
    )


def as_json(value: Any) -> Any:
    """A field's value as a flow takes it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are given, as JSON has them."""
    return {name: as_json(value) for name, value in values.items() if value is not None}
