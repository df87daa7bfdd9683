"""Sheets: panels beside each other, a legend, text that cannot break out."""

import xml.etree.ElementTree as ET

from foretune.views.charts import Line
from papers.page.sheets import HEIGHT, WIDTH, panel, rate_text, sheet


def test_panels_stand_side_by_side_and_wrap():
    chart = panel([Line([1, 2, 3], [0.1, 0.5, 0.4], "a")], "x", "y", log_x=False)
    root = ET.fromstring(sheet("title", [(f"p{k}", chart) for k in range(4)], ["a"], columns=3))
    placed = [(int(e.get("x")), int(e.get("y"))) for e in root if e.tag.endswith("svg")]
    assert [x // WIDTH for x, _ in placed] == [0, 1, 2, 0]
    assert placed[3][1] > placed[0][1] + HEIGHT
    assert int(root.get("width")) == 3 * WIDTH


def test_names_are_escaped():
    root = ET.fromstring(
        sheet("<b>", [("a & b", panel([Line([1, 2], [0, 1])], "x", "y", log_x=False))], ["<i>"])
    )
    texts = {e.text for e in root.iter() if e.tag.endswith("text")}
    assert {"<b>", "a & b", "<i>"} <= texts


def test_rates_are_short():
    assert [rate_text(r) for r in (1e-4, 3e-3, 0.1)] == ["1e-4", "3e-3", "0.1"]
