"""A dataclass as options: of a command line, of a call from Python, of a flow.

A field's `metadata` says what no type says:

| key       | meaning                                                                        |
|-----------|--------------------------------------------------------------------------------|
| `help`    | what it is, for people                                                         |
| `metavar` | its value's name in the help                                                   |
| `group`   | the heading that it stands under                                               |
| `flag`    | its name on the command line, where that is not the field's                    |
| `off`     | flag and help that turn it off, of a field that is true by default             |
| `least`   | the smallest value that can be meant                                           |
| `above`   | what a value must be larger than                                               |
| `env`     | the environment variable that takes the default's place, where it is set       |
| `fields`  | a dataclass, for a mapping of some of its fields: each is an option of its own |

Nothing is imported here that takes time.
"""

import argparse
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from foretune.errors import BadInput

T = TypeVar("T")
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    tuple: "a list of names",
    dict: "a mapping of names to values",
}


@dataclass(frozen=True)
class Option:
    """A field with its type: `kind` is one of `KINDS`; `optional`: it may be None."""

    field: Field[Any]
    kind: type
    optional: bool

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.name

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.field.default is MISSING and self.field.default_factory is MISSING

    @property
    def default(self) -> Any:
        """The default, None where there is none."""
        if self.field.default_factory is not MISSING:
            return self.field.default_factory()
        return None if self.required else self.field.default

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        said = self.field.metadata
        return str(said["off"][0] if "off" in said else said.get("flag") or flag_of(self.name))

    def __getitem__(self, key: str) -> Any:
        return self.field.metadata.get(key)


def flag_of(name: str) -> str:
    """A field's name as a command line writes it."""
    return "--" + name.replace("_", "-")


def options_of(kind: type, leave: Collection[str] = ()) -> list[Option]:
    """The options of a dataclass, in its order, without those to `leave` out."""
    hints = get_type_hints(kind)
    found = []
    for field in fields(kind):
        hint = hints[field.name]
        several = get_args(hint) if NoneType in get_args(hint) else (hint,)
        plain = next(one for one in several if one is not NoneType)
        if field.name not in leave:
            found.append(Option(field, get_origin(plain) or plain, len(several) > 1))
    return found


# -- the command line


def add_options(
    parser: Any,
    kind: type,
    *,
    only: Collection[str] | None = None,
    leave: Collection[str] = (),
    unset: bool = False,
    optional: Collection[str] = (),
) -> None:
    """Give `parser` the options of a dataclass: a field without a default is positional, and an
    empty text where it is `optional` and not given. With `unset`, an option that is not given is
    None.
    """
    groups: dict[str, Any] = {}
    for option in options_of(kind, leave):
        if only is not None and option.name not in only:
            continue
        where = parser
        if (title := option["group"]) is not None:
            where = groups.get(title) or groups.setdefault(title, parser.add_argument_group(title))
        if option["fields"] is not None:
            add_options(where, option["fields"], unset=True)
        else:
            how = _how(option, unset, option.name in optional)
            where.add_argument(*_argument(option), **how)


def _argument(option: Option) -> tuple[str, ...]:
    return (option.name,) if option.required else (option.flag,)


def _how(option: Option, unset: bool, optional: bool) -> dict[str, Any]:
    """The keywords of argparse's `add_argument`."""
    how: dict[str, Any] = {"help": option["help"]}
    if option["metavar"] is not None:
        how["metavar"] = option["metavar"]
    if option.required:
        return how | {"nargs": "?", "default": ""} if optional else how
    how |= {"dest": option.name, "default": None if unset else option.default}
    how["default"] = from_environment(option).get(option.name, how["default"])
    if option.kind is bool and option.optional:
        how["help"] = option["help"]
        return how | {"action": argparse.BooleanOptionalAction}
    if option.kind is bool:
        if option["off"] is not None:
            how["help"] = option["off"][1]
        return how | {"action": "store_false" if option.default else "store_true"}
    if option.kind is dict:
        return how | {"action": "append", "default": None if unset else []}
    return how | {"type": split_names if option.kind is tuple else option.kind}


def from_environment(option: Option) -> dict[str, Any]:
    """The field's value by its name, where an environment variable has it."""
    text = os.environ.get(option["env"]) if option["env"] is not None else None
    return {} if text is None else {option.name: option.kind(text)}


def given(kind: type, args: argparse.Namespace, leave: Collection[str] = ()) -> dict[str, Any]:
    """What a parsed command line says about the fields of a dataclass. Raises `BadInput`."""
    found: dict[str, Any] = {}
    for option in options_of(kind, leave):
        if (inner := option["fields"]) is not None:
            values = {one.name: getattr(args, one.name) for one in options_of(inner)}
            found[option.name] = {k: v for k, v in values.items() if v is not None}
            for one in options_of(inner):
                if one.kind is dict and one.name in found[option.name]:
                    pairs = found[option.name][one.name]
                    found[option.name][one.name] = assignments(pairs, one.flag)
        elif option.kind is dict:
            found[option.name] = assignments(getattr(args, option.name), option.flag)
        else:
            found[option.name] = getattr(args, option.name)
    return found


def assignments(pairs: Sequence[str], flag: str = "--option") -> dict[str, Any]:
    """`NAME=VALUE` pairs as numbers, booleans or texts. Raises `BadInput` for anything else."""
    out: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise BadInput(f"{flag} {pair!r} must be NAME=VALUE, such as eta=2")
        try:
            out[name] = json.loads(text)
        except ValueError:
            out[name] = text
    return out


def split_names(text: str) -> tuple[str, ...]:
    """A list separated by commas."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


# -- values from Python or JSON


def filled(kind: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass of these values, as Python or JSON has them: a path may be a text, a list of
    names a list. Raises `BadInput` for an unknown name, with near ones, and for a value of another
    kind.
    """
    options = {option.name: option for option in options_of(kind)}
    for name in values:
        refuse_unknown(name, options)
    taken = {k: v for option in options.values() for k, v in from_environment(option).items()}
    taken |= {name: taken_as(options[name], value) for name, value in values.items()}
    for name, option in options.items():
        if option.required and name not in taken:
            raise BadInput(f"{name} must be given: {option['help']}")
    return kind(**taken)


def refuse_unknown(name: str, known: Collection[str], what: str = "option") -> None:
    """Raise `BadInput` with near names for a name that is none."""
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise BadInput(f"unknown {what} {name!r}{hint}; there are {', '.join(known)}")


def taken_as(option: Option, value: Any) -> Any:
    """A value as its field has it. Raises `BadInput` for one of another kind."""
    kind = option.kind
    if value is None and option.optional:
        return None
    if kind is tuple and isinstance(value, (list, tuple)):
        return tuple(str(one) for one in value)
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if kind is Path and isinstance(value, (str, os.PathLike)):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadInput(f"{option.name}={value!r} must be {KINDS[kind]}")
    return value


def unusable(option: Option, value: Any) -> Iterator[str]:
    """What is wrong with the texts of an option: no file or name can have a NUL in it."""
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, (str, Path)) and "\0" in str(text):
            yield f"{option.name}={str(text)!r} must be a text without NUL characters"


def out_of_range(made: Any) -> Iterator[str]:
    """What is wrong with the values of a dataclass: its numbers, by its fields' `least` and
    `above`, and its texts.
    """
    for option in options_of(type(made)):
        yield from unusable(option, getattr(made, option.name))
        value, least, above = getattr(made, option.name), option["least"], option["above"]
        if value is not None and least is not None and value < least:
            yield f"{option.name}={value} must be at least {least}"
        if value is not None and above is not None and not value > above:
            limit = f"more than {above}" if above else "positive"
            yield f"{option.name}={value} must be {limit}"
