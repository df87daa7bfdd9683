"""Figures and tables of the reports folder: drawn where they are there, left out where not, refused
where broken.
"""

from dataclasses import replace

import pandas as pd
import pytest

from foretune.errors import BadInput
from papers.page import figures
from papers.page.figures import (
    FIGURES,
    TABLES,
    Figure,
    Table,
    drawn,
    lines_of,
    metric_name,
    points,
    read,
)

FIGURE = Figure(
    "a/f.csv",
    "Title",
    "About.",
    "name",
    "k",
    "regret",
    "se",
    "evaluations",
    "mean regret",
    log_y=True,
)


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setattr(
        figures, "FIGURES", (FIGURE, Figure("none.csv", "T", "", "n", "x", "y", "e", "x", "y"))
    )
    monkeypatch.setattr(figures, "TABLES", (Table("t.csv", "Table", "What."),))
    (tmp_path / "a").mkdir()
    rows = [(n, k, v / k, 0.01) for n, v in (("one", 0.5), ("two", 0.9)) for k in (2, 1, 4)]
    pd.DataFrame(rows, columns=["name", "k", "regret", "se"]).to_csv(
        tmp_path / "a" / "f.csv", index=False
    )
    return tmp_path


def test_figures_that_are_there_are_drawn_with_every_line(reports):
    ((figure, picture),) = list(drawn(reports))
    assert (
        figure is FIGURE and "one: 0.125 at 4" in picture and "two" in picture and "<svg" in picture
    )
    assert list(figures.tables(reports)) == []
    (reports / "t.csv").write_text("a,b\n1,2\n")
    ((table, frame),) = list(figures.tables(reports))
    assert table.title == "Table" and frame.to_dict("records") == [{"a": 1, "b": 2}]


def test_a_band_is_drawn_only_where_there_is_an_error(reports):
    frame = read(reports, FIGURE)
    assert frame is not None
    assert 'class="band' in figures.draw(FIGURE, frame)
    assert 'class="band' not in figures.draw(replace(FIGURE, error=""), frame)


def test_points_are_ordered_and_named_by_file_and_line(reports):
    found = points(reports)
    assert list(found) == ["a/f: one", "a/f: two"]
    assert found["a/f: one"] == [
        ("mean_regret", 0.5, 1),
        ("mean_regret", 0.25, 2),
        ("mean_regret", 0.125, 4),
    ]


def test_rows_of_a_table_that_names_them_are_points_too(reports, monkeypatch):
    monkeypatch.setattr(
        figures, "TABLES", (Table("t.csv", "Table", "", "name"), Table("u.csv", "Other", ""))
    )
    (reports / "t.csv").write_text("name,AP@10,regret se,note\none,0.5,,x\n")
    (reports / "u.csv").write_text("name,AP@10\none,0.5\n")
    found = points(reports)
    assert found["t: one"] == [("AP_at_10", 0.5, 0)] and not any(
        key.startswith("u") for key in found
    )


def test_what_is_repeated_with_tasks_held_out_alone_is_shown_beside():
    """Every figure of the recommenders and every table of theirs is there for both leave-outs,
    under names that differ.
    """
    files, titles = [f.file for f in FIGURES], [f.title for f in FIGURES]
    for file in ("rankings/figure5a.csv", "task_aware_curves.csv", "siamese.csv"):
        assert files.count(file) == files.count(f"leave_one_task_out/{file}") > 0
    assert len(set(titles)) == len(titles)
    shown = [t.file for t in TABLES]
    for file in (
        "rankings/summary.csv",
        "task_aware.csv",
        "task_aware_share.csv",
        "siamese_distances.csv",
    ):
        assert {file, f"leave_one_task_out/{file}"} <= set(shown)


def test_only_the_lines_to_keep_are_drawn_in_their_order(reports):
    kept = Figure(**{**FIGURE.__dict__, "keep": ("two", "three")})
    frame = read(reports, kept)
    assert frame is not None and list(lines_of(kept, frame)) == ["two"]


def test_a_broken_file_is_named(reports):
    (reports / "a" / "f.csv").write_text("name,k\n1,2\n")
    with pytest.raises(BadInput, match="lacks the columns regret, se"):
        list(drawn(reports))


def test_diagrams_are_pictures_and_nothing_else(reports, monkeypatch):
    monkeypatch.setattr(figures, "DIAGRAMS", (("d.svg", "After 200"), ("none.svg", "Missing")))
    (reports / "d.svg").write_text("<svg></svg>")
    assert list(figures.diagrams(reports)) == [("After 200", "<svg></svg>")]
    (reports / "d.svg").write_text("<svg><script>1</script></svg>")
    with pytest.raises(BadInput, match="plain SVG"):
        list(figures.diagrams(reports))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AP@10", "AP_at_10"),
        ("AP@10, ties averaged", "AP_at_10_ties_averaged"),
        ("regret (%)", "regret"),
        ("valid/loss", "valid/loss"),
    ],
)
def test_names_that_mlflow_refuses_are_spelled_out(text, name):
    from mlflow.utils.validation import _validate_metric_name

    assert metric_name(text) == name
    _validate_metric_name(name)
