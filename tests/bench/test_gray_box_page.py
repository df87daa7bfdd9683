"""The page of the gray-box field tells what was measured."""

import importlib.util
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_the_page_is_as_the_tables():
    spec = importlib.util.spec_from_file_location("gray_box_page", BENCH / "gray_box_page.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.PAGE.read_text()
    assert script.renewed(page) == page
    assert script.short(0.0792) == ".0792" and script.short(1.0, 3) == "1.000"
