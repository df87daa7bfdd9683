"""The errors that foretune raises on purpose."""


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message names the offending value, what would be right, and where it came from. The command
    line prints it as one line and exits with code 2.
    """


class BadSuggestion(RuntimeError):
    """A searcher suggested a step that its study cannot take (a defect of the searcher, not of the
    user's input).
    """
