"""Pictures that are there are shown as images; what is none is refused."""

from base64 import b64decode

import pandas as pd
import pytest

from foretune.errors import BadInput
from papers.page.pictures import PICTURES, pictures
from papers.page.report import benchmark_report


def test_a_picture_is_an_image_on_the_page(tmp_path):
    assert list(pictures(tmp_path)) == []
    file, title = next(p for p in PICTURES if p[0].startswith("autohyper"))
    (tmp_path / "autohyper").mkdir()
    (tmp_path / file).write_text("<svg>3</svg>")
    ((shown, address),) = list(pictures(tmp_path))
    assert shown == title
    head, content = address.split(",")
    assert head == "data:image/svg+xml;base64" and b64decode(content) == b"<svg>3</svg>"
    (tmp_path / "autohyper" / "other.svg").write_text("<svg></svg>")
    page = benchmark_report([], {"a table": pd.DataFrame({"a": [1]})}, tmp_path)
    assert page.count("<img") == 1 and f'src="{address}"' in page and f'alt="{title}"' in page


def test_anything_else_is_refused(tmp_path):
    (tmp_path / PICTURES[0][0]).parent.mkdir()
    (tmp_path / PICTURES[0][0]).write_text("<html>")
    with pytest.raises(BadInput, match="not an SVG"):
        list(pictures(tmp_path))
