"""Charts: where points land, ticks, escaping."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

from foretune.views.charts import (
    Coordinate,
    Frame,
    Line,
    legend,
    line_chart,
    log_ticks,
    parallel_coordinates,
    responsive,
    series_style,
    spread_labels,
    ticks,
)


def numbers(path):
    return [float(v) for v in re.findall(r"-?\d+\.?\d*", path)]


def paths(svg, style):
    return [
        e.get("d") for e in ElementTree.fromstring(svg).iter("path") if style in e.get("class", "")
    ]


def test_ticks_are_round_and_inside():
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(3, 97, 5) == [20, 40, 60, 80]
    assert ticks(5, 5) == [5]
    assert log_ticks(0.001, 1) == [0.001, 0.01, 0.1, 1.0] or len(log_ticks(0.001, 1)) <= 6
    assert all(1 <= t <= 300 for t in log_ticks(1, 300))


def test_higher_values_are_drawn_higher_and_gaps_are_left_out():
    svg = line_chart([Line([1, 2, 3], [0.0, math.nan, 1.0], "a")], Frame())
    x0, y0, x1, y1 = numbers(paths(svg, "line")[0])
    assert x1 > x0
    assert y1 < y0


def test_log_axis_spaces_decades_evenly():
    svg = line_chart([Line([1, 10, 100], [1.0, 0.1, 0.01], "a")], Frame(log_x=True, log_y=True))
    x0, y0, x1, y1, x2, y2 = numbers(paths(svg, "line")[0])
    assert abs((x1 - x0) - (x2 - x1)) < 0.2
    assert abs((y1 - y0) - (y2 - y1)) < 0.2


def test_log_axis_passes_zeros_over():
    svg = line_chart([Line([1, 2, 3], [1.0, 0.0, 0.01], "a")], Frame(log_y=True))
    assert len(numbers(paths(svg, "line")[0])) == 4


def test_steps_hold_the_value_until_the_next():
    svg = line_chart([Line([0, 10, 20], [0.0, 0.0, 1.0], "a", steps=True)], Frame())
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+H[\d.]+", paths(svg, "line")[0])


def test_nothing_to_draw_is_empty():
    assert line_chart([], Frame()) == ""
    assert line_chart([Line([1], [math.nan])], Frame()) == ""
    assert parallel_coordinates([], [], []) == ""


def test_one_point_and_a_constant_line_are_drawn():
    assert "<circle" in line_chart([Line([1], [0.5], "a")], Frame())
    ElementTree.fromstring(line_chart([Line([1, 2], [0.5, 0.5], "a")], Frame()))


def test_text_is_escaped():
    evil = "<script>alert(1)</script>&"
    frame = Frame(x_label=evil, y_label=evil)
    svg = line_chart(
        [Line([1, 2], [1, 2], evil, title=evil, cross=True), Line([1, 2], [1, 3], "b")], frame
    )
    svg += legend([Line([], [], evil)]) + parallel_coordinates(
        [Coordinate(evil, [0.5], [(0.5, evil)])] * 2, ["p0"], [evil]
    )
    assert "<script" not in svg
    ElementTree.fromstring(f"<div>{svg}</div>")


def test_labels_keep_their_distance():
    placed = spread_labels([(100.0, Line([], [], str(k))) for k in range(5)], 14, 0, 110)
    ys = [y for y, _ in placed]
    assert all(b - a >= 14 - 1e-9 for a, b in pairwise(ys))
    assert max(ys) <= 110


def test_a_switched_off_value_lies_below_all_others():
    axes = [Coordinate("a", [0.0, math.nan], [(0.0, "low")]), Coordinate("b", [1.0, 1.0], [])]
    svg = parallel_coordinates(axes, ["p0", "p4"], ["on", "off"])
    on, off = numbers(paths(svg, "p0")[0]), numbers(paths(svg, "p4")[0])
    assert off[1] > on[1] > on[3] == off[3]


def test_both_sizes_come_with_the_page():
    html = responsive(lambda f: line_chart([Line([1, 2], [1, 2], "a")], f), Frame())
    assert 'class="wide"' in html
    assert "0 0 380 300" in html


def test_more_lines_than_colours_are_dashed():
    assert series_style(0) == "s0"
    assert series_style(9) == "s1 dash1"
