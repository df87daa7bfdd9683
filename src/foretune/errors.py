"""The errors that foretune raises on purpose."""

from collections.abc import Iterator
from contextlib import contextmanager


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
    """A searcher suggested a step that its study cannot take (a defect of the searcher, not of the
    user's input).
    """
