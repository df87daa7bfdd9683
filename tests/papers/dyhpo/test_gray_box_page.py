"""The page of the gray-box field tells what was measured."""

from papers.dyhpo.gray_box_page import PAGE, renewed, short


def test_the_page_is_as_the_tables():
    page = PAGE.read_text()
    assert renewed(page) == page
    assert short(0.0792) == ".0792" and short(1.0, 3) == "1.000"
