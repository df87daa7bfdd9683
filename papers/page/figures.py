"""Figures and tables of the reports folder beyond regret: where each lies, how it is drawn.

A figure is a CSV file with a row for each point of each line; a table is a CSV file shown as it is.
Which there are, and what stands above them, is `captions.toml`; what is not there is left out.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.views.charts import Frame, Line, legend, line_chart, responsive, series_style

FLOOR = 1e-4  # of logarithmic axes


@dataclass(frozen=True)
class Figure:
    """A picture of `file`: a line for each value of `line`, `y` against `x`.

    It has a band of `error` (empty: none). `where` is a column and the value that rows must have
    there, None: a picture for each value; `keep` names the lines to draw, in this order (none:
    all).
    """

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
    where: tuple[str, float | str | None] | None = None


@dataclass(frozen=True)
class Table:
    """A table of `file`.

    MLflow has the numbers of each row under its name in column `line` (empty: the table is for the
    page alone).
    """

    file: str
    title: str
    about: str
    line: str = ""


CAPTIONS = tomllib.loads(Path(__file__).with_name("captions.toml").read_text(encoding="utf-8"))


def _figure(entry: dict[str, Any]) -> Figure:
    where = (*entry.pop("where"), None)[:2] if "where" in entry else None
    keep = tuple(entry.pop("keep", ()))
    return Figure(**{"error": "", **entry}, keep=keep, where=where)


FIGURES = tuple(_figure(dict(entry)) for entry in CAPTIONS["figure"])
TABLES = tuple(Table(**entry) for entry in CAPTIONS["table"])
DIAGRAMS = tuple((entry["file"], entry["title"]) for entry in CAPTIONS["diagram"])
PICTURES = tuple((entry["file"], entry["title"]) for entry in CAPTIONS["picture"])


def read(reports: Path, entry: Figure | Table) -> pd.DataFrame | None:
    """The file of a figure or table; None where there is none.

    Raises `BadInput` for one that cannot be read or lacks a column.
    """
    path = reports / entry.file
    if not path.is_file():
        return None
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if isinstance(entry, Figure):
        columns = [entry.line, entry.x, entry.y, *([entry.error] if entry.error else [])]
        columns += [entry.where[0]] if entry.where else []
        if missing := [c for c in columns if c not in frame]:
            raise BadInput(
                f"{path} lacks the columns {', '.join(missing)}; it has "
                f"{', '.join(map(str, frame))}"
            )
        if entry.where and entry.where[1] is not None:
            frame = frame[frame[entry.where[0]] == entry.where[1]]
        frame = frame[frame[entry.line].isin(entry.keep)] if entry.keep else frame
    return frame


def figures(reports: Path) -> Iterator[tuple[Figure, pd.DataFrame]]:
    """Every figure that there is with its rows.

    Those with a picture for each value are one entry a value.
    """
    for figure in FIGURES:
        frame = read(reports, figure)
        if frame is None or not len(frame):
            continue
        if figure.where is None or figure.where[1] is not None:
            yield figure, frame
            continue
        column = figure.where[0]
        for value, part in frame.groupby(column, sort=True):
            yield (
                replace(figure, title=f"{figure.title}: {value}", where=(column, str(value))),
                part,
            )


def lines_of(figure: Figure, frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """The points of each line, by x, in the order in which the lines are drawn."""
    names = [n for n in figure.keep if n in set(frame[figure.line])] or list(
        dict.fromkeys(frame[figure.line])
    )
    return {str(n): frame[frame[figure.line] == n].sort_values(figure.x) for n in names}


def draw(figure: Figure, frame: pd.DataFrame) -> str:
    """The figure as SVG with its legend."""
    lines = []
    for k, (name, part) in enumerate(lines_of(figure, frame).items()):
        y = part[figure.y].to_numpy(float)
        floor = FLOOR if figure.log_y else -np.inf
        low = high = None
        if figure.error:
            half = np.nan_to_num(part[figure.error].to_numpy(float))
            low, high = (np.maximum(y + sign * half, floor).tolist() for sign in (-1, 1))
        y = np.maximum(y, floor)
        style = "muted thick" if name == "random" else series_style(k)
        x = part[figure.x].to_list()
        lines.append(
            Line(x, y.tolist(), name, style, f"{name}: {y[-1]:.4g} at {x[-1]:g}", low, high)
        )
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
    for figure, frame in figures(reports):
        yield figure, draw(figure, frame)


def diagrams(reports: Path) -> Iterator[tuple[str, str]]:
    """Every critical-difference diagram that there is: its title and SVG.

    Raises `BadInput` for a file that is none.
    """
    for file, title in DIAGRAMS:
        if (path := reports / file).is_file():
            text = path.read_text(encoding="utf-8")
            if not text.lstrip().startswith("<svg") or "<script" in text:
                raise BadInput(f"{path} is not a plain SVG picture")
            yield title, text


def tables(reports: Path) -> Iterator[tuple[Table, pd.DataFrame]]:
    """Every table that there is."""
    for entry in TABLES:
        if (frame := read(reports, entry)) is not None and len(frame):
            yield entry, frame


def points(reports: Path) -> dict[str, list[tuple[str, float, int]]]:
    """Every line, and every row of the tables that name their rows, as points for MLflow.

    Points are (metric, value, step), by "file: line".
    """
    out: dict[str, list[tuple[str, float, int]]] = {}
    for figure, frame in figures(reports):
        metric = metric_name(figure.y_label)
        for name, part in lines_of(figure, frame).items():
            kept = part[np.isfinite(part[figure.y])]
            where = f" {figure.where[0]}={figure.where[1]}" if figure.where else ""
            found = [
                (metric, float(y), int(x))
                for x, y in zip(kept[figure.x], kept[figure.y], strict=True)
            ]
            out.setdefault(f"{figure.file.removesuffix('.csv')}{where}: {name}", []).extend(found)
    for table, frame in tables(reports):
        if table.line not in frame:
            continue
        for name, row in zip(
            frame[table.line], frame.select_dtypes("number").to_dict("records"), strict=True
        ):
            found = [(metric_name(str(k)), float(v), 0) for k, v in row.items() if np.isfinite(v)]
            out.setdefault(f"{table.file.removesuffix('.csv')}: {name}", []).extend(found)
    return out


def metric_name(text: str) -> str:
    """As MLflow takes it: words of letters, digits, "_", ".", ":", "/" and "-", joined by "_"."""
    return "_".join(re.findall(r"[\w.:/-]+", text.replace("@", " at "), re.ASCII))
