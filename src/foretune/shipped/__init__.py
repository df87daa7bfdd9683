"""What comes with the package: history, `meta/NAME`, and recommenders fitted on it,
`models/NAME`. What lies in the user's data folder under the same name comes first.
"""

from pathlib import Path
from typing import Literal

from foretune.errors import BadInput

Kind = Literal["meta", "models"]

FOLDER = Path(__file__).resolve().parent
HISTORY = "light"  # the meta-dataset that a study learns from unless it is told another
SHIPPED: dict[Kind, tuple[str, ...]] = {"meta": (HISTORY,), "models": ("hyperstar", "siamese")}
LIGHT = FOLDER / "meta" / HISTORY
NOUNS: dict[Kind, str] = {"meta": "meta-dataset folder", "models": "fitted recommender"}


def find(kind: Kind, name: str, data: Path) -> Path | None:
    """The folder of a meta-dataset or of a fitted recommender: the first that exists of
    DATA/KIND/NAME and the package's own; None where there is neither.
    """
    for place in (data, FOLDER):
        if (folder := place / kind / name).is_dir():
            return folder
    return None


def need(kind: Kind, name: str, data: Path) -> Path:
    """The same, but raises `BadInput` where there is neither."""
    if (folder := find(kind, name, data)) is None:
        raise BadInput(missing(kind, name, data))
    return folder


def names(kind: Kind, data: Path) -> list[str]:
    """All names that `find` knows, a user's or the package's."""
    return sorted(
        {folder.name for place in (data, FOLDER) for folder in (place / kind).glob("[!.]*/")}
    )


def missing(kind: Kind, name: str, data: Path) -> str:
    """Where a folder was looked for in vain, and what would bring it."""
    wanted = f"there is no {NOUNS[kind]} {data / kind / name}"
    if name in SHIPPED[kind]:
        return (
            f"{wanted}, and the one that comes with foretune is gone from {FOLDER}: pip install "
            "--force-reinstall --no-deps foretune brings it back"
        )
    there = ", ".join(names(kind, data)) or "none"
    return f"{wanted}, and none of that name comes with foretune; there: {there}"
