"""The errors that foretune raises on purpose, and words for their texts."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from os import PathLike, fspath


def plural(noun: str, count: int) -> str:
    """`noun` as it stands behind `count`, for nouns that take an s."""
    return noun if count == 1 else f"{noun}s"


def near(name: str, known: Iterable[str], count: int = 3) -> str:
    """Names of `known` that look like `name`, as a question in brackets, or nothing."""
    found = get_close_matches(name, list(dict.fromkeys(known)), n=count, cutoff=0.6)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def few(texts: Sequence[str], between: str, most: int = 3) -> str:
    """The first of some texts, and how many more there are."""
    more = [f"{len(texts) - most} more"] if len(texts) > most else []
    return between.join([*texts[:most], *more])


def as_argument(path: str | PathLike[str]) -> str:
    """A path as a shell takes it for one argument, which no command takes for an option."""
    text = fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message names the offending value, what would be right, and where it came from. The command
    line prints it as one line and exits with code 2.
    """


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Import the packages of an optional extra inside; raises `BadInput` that says what to install
    where one is missing.
    """
    try:
        yield
    except ImportError as error:
        raise BadInput(
            f"{purpose} needs a package that is not installed ({error.name or error}): "
            f"pip install 'foretune[{name}]'"
        ) from error


class BadSuggestion(RuntimeError):
    """A searcher suggested a step that its study cannot take: its fault, not the user's."""


def at_least(least: float, /, **values: float) -> None:
    """Raise `BadInput` for the first of the named `values` that is below `least` (or NaN)."""
    for name, value in values.items():
        if not value >= least:
            shown = f"{value:g}" if isinstance(value, float) else value
            raise BadInput(f"{name}={shown} must be at least {least:g}")


def positive(**values: float) -> None:
    """Raise `BadInput` for the first of the named `values` that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise BadInput(f"{name}={value:g} must be positive")


def within(low: float, high: float, /, **values: float) -> None:
    """Raise `BadInput` for the first of the named `values` that is not from `low` to `high`."""
    for name, value in values.items():
        if not low <= value <= high:
            raise BadInput(f"{name}={value:g} must be from {low:g} to {high:g}")


def one_of(known: Sequence[str], /, **values: str) -> None:
    """Raise `BadInput` for the first of the named `values` that is none of `known`."""
    for name, value in values.items():
        if value not in known:
            raise BadInput(f"{name}={value!r} must be one of {', '.join(known)}")
