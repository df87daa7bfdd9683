"""Pictures that stand on the benchmark page as they are: SVG files with their own style."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from foretune.errors import BadInput
from papers.page.figures import PICTURES


def pictures(reports: Path) -> Iterator[tuple[str, str]]:
    """Title and `data:` address of every picture that there is.

    As images they keep their styles to themselves, and nothing in them can run. Raises `BadInput`
    for a file that is none.
    """
    for file, title in PICTURES:
        if (path := reports / file).is_file():
            content = path.read_bytes()
            if not content.lstrip().startswith(b"<svg"):
                raise BadInput(f"{path} is not an SVG picture")
            yield title, f"data:image/svg+xml;base64,{b64encode(content).decode()}"
