"""Names of hyperparameters, metrics and columns: which are the product's own, and which would
become one where a study is logged.
"""

import re
from collections.abc import Iterable

from foretune.errors import BadInput

# the keys of the tables (foretune.history.curve_table.KEYS) and of run stores
RESERVED = ("task", "config_id", "run_id", "seed", "epoch")
LONGEST = 250  # characters of a name in MLflow


def log_name(name: object) -> str:
    """`name` as MLflow takes it: other characters than its own become `_`, and it is cut."""
    return re.sub(r"[^\w\-. :/]", "_", str(name))[:LONGEST]


def refuse_reserved(kind: str, names: Iterable[object], *, more: Iterable[str] = ()) -> None:
    """Raise `BadInput` for the first of `names` that is no name, or one that the tables use
    themselves: `RESERVED` and `more`. `kind` says what is named so, such as "hyperparameter".
    """
    own = (*RESERVED, *more)
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise BadInput(f"a {kind} is named {name!r}; a name is a text that is not empty")
        if name in own:
            raise BadInput(
                f"a {kind} cannot be named {name!r}, which foretune's tables use themselves "
                f"({', '.join(own)}): give it another name, such as my_{name}"
            )


def refuse_alike(kind: str, names: Iterable[str]) -> None:
    """Raise `BadInput` for two of `names` that become one in MLflow."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(log_name(name), name)
        if other != name:
            raise BadInput(
                f"the {kind}s {other!r} and {name!r} would become one in MLflow "
                f"({log_name(name)!r}): rename one of them"
            )
