"""The errors that foretune raises on purpose, and a word for their texts."""


def plural(noun: str, count: int) -> str:
    """`noun` as it stands behind `count`, for nouns that take an s."""
    return noun if count == 1 else f"{noun}s"


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message names the offending value, what would be right, and where it came from. The command
    line prints it as one line and exits with code 2.
    """


class BadSuggestion(RuntimeError):
    """A searcher suggested a step that its study cannot take: its fault, not the user's."""
