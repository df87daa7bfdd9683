"""The studies of a data folder."""

from pathlib import Path

from foretune.errors import BadInput


def find_study(name: str, data: Path) -> Path:
    """The folder of a study by name or path. Raises `BadInput` that lists the studies there are."""
    for folder in (data / "studies" / name, Path(name)):
        if (folder / "study.json").is_file():
            return folder
    known = ", ".join(f.name for f in all_studies(data)) or "none yet"
    raise BadInput(f"there is no study {name!r} in {data / 'studies'}; there are: {known}")


def all_studies(data: Path) -> list[Path]:
    """Folders of all studies, oldest first."""
    found = (data / "studies").glob("*/study.json")
    return [f.parent for f in sorted(found, key=lambda f: f.stat().st_mtime)]
