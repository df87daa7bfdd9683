"""The figures and tables of the reports folder beyond regret against epochs: where each lies, and how it is drawn.

A figure is a CSV file with a row for each point of each line; a table is a CSV file shown as it is. What is not there is left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.charts import Frame, Line, legend, line_chart, responsive, series_style
from foretune.errors import BadInput

FLOOR = 1e-4  # of logarithmic axes


@dataclass(frozen=True)
class Figure:
    """A picture of `file`: a line for each value of `line`, `y` against `x` with a band of `error`; `keep` names the lines to draw (none: all)."""

    file: str
    title: str
    about: str
    line: str
    x: str
    y: str
    error: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of `file`."""

    file: str
    title: str
    about: str


FIGURES: tuple[Figure, ...] = ()
TABLES: tuple[Table, ...] = ()


def read(reports: Path, entry: Figure | Table) -> pd.DataFrame | None:
    """The file of a figure or table; None where there is none. Raises `BadInput` for one that cannot be read or lacks a column."""
    path = reports / entry.file
    if not path.is_file():
        return None
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if isinstance(entry, Figure):
        if missing := [c for c in (entry.line, entry.x, entry.y, entry.error) if c not in frame]:
            raise BadInput(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frame))}")
        frame = frame[frame[entry.line].isin(entry.keep)] if entry.keep else frame
    return frame


def lines_of(figure: Figure, frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """The points of each line, by x, in the order in which the lines are drawn."""
    names = [n for n in figure.keep if n in set(frame[figure.line])] or list(dict.fromkeys(frame[figure.line]))
    return {str(n): frame[frame[figure.line] == n].sort_values(figure.x) for n in names}


def draw(figure: Figure, frame: pd.DataFrame) -> str:
    """The figure as SVG with its legend."""
    lines = []
    for k, (name, part) in enumerate(lines_of(figure, frame).items()):
        y, half = part[figure.y].to_numpy(float), np.nan_to_num(part[figure.error].to_numpy(float))
        low, high = y - half, y + half
        if figure.log_y:
            y, low, high = np.maximum(y, FLOOR), np.maximum(low, FLOOR), np.maximum(high, FLOOR)
        style = "muted thick" if name == "random" else series_style(k)
        x = part[figure.x].to_list()
        lines.append(Line(x, y.tolist(), name, style, f"{name}: {y[-1]:.4g} at {x[-1]:g}", low.tolist(), high.tolist()))
    frame_of = Frame(
        height=380,
        x_label=figure.x_label,
        y_label=figure.y_label,
        log_x=figure.log_x,
        log_y=figure.log_y,
        y_format=lambda v: f"{v:.4g}",
    )
    return responsive(lambda f: line_chart(lines, f), frame_of, 340) + legend(lines)


def drawn(reports: Path) -> Iterator[tuple[Figure, str]]:
    """Every figure that there is, with its picture."""
    for figure in FIGURES:
        if (frame := read(reports, figure)) is not None and len(frame):
            yield figure, draw(figure, frame)


def tables(reports: Path) -> Iterator[tuple[Table, pd.DataFrame]]:
    """Every table that there is."""
    for entry in TABLES:
        if (frame := read(reports, entry)) is not None and len(frame):
            yield entry, frame


def points(reports: Path) -> dict[str, list[tuple[str, float, int]]]:
    """Every line as points (metric, value, step) for MLflow, by "file: line"."""
    out: dict[str, list[tuple[str, float, int]]] = {}
    for figure in FIGURES:
        if (frame := read(reports, figure)) is not None:
            metric = figure.y_label.replace(" ", "_")
            for name, part in lines_of(figure, frame).items():
                kept = part[np.isfinite(part[figure.y])]
                out[f"{Path(figure.file).stem}: {name}"] = [
                    (metric, float(y), int(x)) for x, y in zip(kept[figure.x], kept[figure.y], strict=True)
                ]
    return out
