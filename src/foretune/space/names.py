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
    """`name` as MLflow takes it: other characters than its own become `_`, and so do parts between
    slashes that would lead elsewhere in a path (`/acc`, `../lr`, `a//b`); and it is cut.
    """
    plain = _as_path(re.sub(r"[^\w\-. :/]", "_", str(name)))[:LONGEST]
    return f"{plain[:-1]}_" if plain.endswith("/") else _as_path(plain)


def _as_path(name: str) -> str:
    """A name whose parts between slashes are all names of files."""
    first, *others = name.split("/")
    first = "_" if first in ("", ".") or first.startswith("..") else first
    return "/".join([first, *("_" if part in ("", ".", "..") else part for part in others)])


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
