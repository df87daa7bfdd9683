"""What parts the columns of a table, and what its numbers' decimals."""

import pytest

from foretune.errors import BadInput
from foretune.tasks.separated import parted, refuse_split_cells, with_point, with_points


@pytest.mark.parametrize(
    ("text", "delimiter", "rest"),
    [
        ("a,b\n1,2\n", ",", "a,b\n1,2\n"),
        ("a;b\n1,5;2,5\n", ";", "a;b\n1,5;2,5\n"),
        ("a\tb\n", "\t", "a\tb\n"),
        ("one\n1\n", ",", "one\n1\n"),
        ("", ",", ""),
        ("sep=;\na;b\n", ";", "a;b\n"),
        ('"a,b,c";d\n', ";", '"a,b,c";d\n'),
    ],
)
def test_the_first_line_says_what_parts_columns(text, delimiter, rest):
    assert parted(text) == (delimiter, rest)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["0,91", "", "1", "nan"], [0.91, None, 1.0, "nan"]),
        (["1.234,5", "2,5"], [1234.5, 2.5]),
        ([",5", "-3,25e-4"], [0.5, -3.25e-4]),
        (["0,123"], [0.123]),  # no thousands begin with 0
        (["1,234", "0,5"], [1.234, 0.5]),
        (["1,234", "12.5"], [1234.0, 12.5]),
        (["1,234,567"], [1234567.0]),
        (["1,234.5"], [1234.5]),
    ],
)
def test_numbers_with_a_comma_are_read_where_they_say_what_it_is(cells, numbers):
    got = with_points({"x": cells}, "t.csv")["x"]
    assert [(c and (c if c == "nan" else float(c))) or None for c in got] == numbers


@pytest.mark.parametrize(
    "cells", [["0.91"], ["a, b"], ["0.9,0.999"], ["(0,9)"], ["12", "13"], ["[1,2]"], [None, ""]]
)
def test_what_has_no_decimal_comma_stays(cells):
    assert with_points({"x": cells}, "t.csv") == {}


def test_one_comma_and_three_digits_may_be_two_things_unless_the_table_says():
    with pytest.raises(BadInput, match=r"t.csv: '1,234' in column x may be 1.234 or 1234"):
        with_points({"x": ["1,234", "5"], "y": ["0.5", "0.6"]}, "t.csv")
    got = with_points({"x": ["1,234", "5"], "y": ["0,5", "0,6"]}, "t.csv")
    assert got == {"x": ["1.234", "5"], "y": ["0.5", "0.6"]}


def test_points_and_commas_for_decimals_in_one_column_are_refused():
    with pytest.raises(BadInput, match="column x has '0,91' and '0.5'"):
        with_points({"x": ["0,91", "0.5"]}, "t.csv")


def test_a_number_in_two_cells_is_refused():
    with pytest.raises(BadInput, match="line 2, has 3 cells for 2 columns: where cells"):
        refuse_split_cells(["1", "0", "91"], ["epoch", "acc"], "t.csv, line 2,")
    refuse_split_cells(["1", "0", "", " "], ["epoch", "acc"], "t.csv, line 2,")


def test_one_number():
    assert [with_point(c) for c in ("0,91", "0.91", "a,b", "1.234,5")] == [
        *("0.91", "0.91", "a,b", "1234.5")
    ]
