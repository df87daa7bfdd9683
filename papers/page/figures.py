"""Figures and tables of the reports folder beyond regret: where each lies, how it is drawn.

A figure is a CSV file with a row for each point of each line; a table is a CSV file shown as it is.
What is not there is left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.views.charts import Frame, Line, legend, line_chart, responsive, series_style

FLOOR = 1e-4  # of logarithmic axes


@dataclass(frozen=True)
class Figure:
    """A picture of `file`: a line for each value of `line`, `y` against `x`.

    With a band of `error` (empty: none).

    `where` is a column and the value that rows must have there, None: a picture for each value;
    `keep` names the lines to draw, in this order (none: all).
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


REGRET = "mean normalized regret"
SHOWN_RECOMMENDERS = (
    "random",
    "task-agnostic",
    "portfolio",
    "nearest-metadata",
    "tr-automl",
    "siamese",
    "global-mean",
    "hyperstar",
)
ALONE = "leave_one_task_out"  # the folder of what is repeated with tasks held out alone
DATABASES = (("lcbench", "LCBench"), ("taskset", "TaskSet"), ("light", "the shipped meta-dataset"))
BY_SOURCE: tuple[Figure, ...] = (  # every source in turn held out
    Figure(
        "rankings/figure5a.csv",
        "Best configuration found after k of a recommender's list",
        "Leave-one-source-out on the shipped meta-dataset; every configuration trained to "
        "the end (HyperSTAR, figure 5a).",
        "recommender",
        "k",
        "regret",
        "regret se",
        "configurations tried",
        REGRET,
        log_x=True,
        log_y=True,
        keep=SHOWN_RECOMMENDERS,
    ),
    Figure(
        "rankings/figure5a.csv",
        "Best accuracy after k of a recommender's list",
        "Mean over tasks of the best validation accuracy among the first k.",
        "recommender",
        "k",
        "best value",
        "",
        "configurations tried",
        "mean best accuracy",
        log_x=True,
        keep=SHOWN_RECOMMENDERS,
    ),
    *(
        Figure(
            "task_aware_curves.csv",
            f"Task-aware Hyperband, eta = {eta}",
            "Hyperband that starts what a recommender ranks first for the task's pictures, "
            "against Hyperband, BOHB and lists (HyperSTAR, figures 3 to 5).",
            "method",
            "epochs",
            "mean",
            "",
            "epochs spent",
            REGRET,
            log_x=True,
            log_y=True,
            where=("eta", eta),
        )
        for eta in (2, 3)
    ),
    Figure(
        "siamese.csv",
        "Bayesian optimisation from the neighbours' best",
        "The four variants of Siamese-BHO's figure 2, and what they must beat; an evaluation "
        "is a full training.",
        "variant",
        "evaluations",
        "mean",
        "se",
        "evaluations",
        REGRET,
        log_y=True,
    ),
)
FIGURES: tuple[Figure, ...] = (
    *BY_SOURCE,
    *(
        replace(
            figure,
            file=f"{ALONE}/{figure.file}",
            title=f"{figure.title}: tasks held out alone",
            about="As above; tasks cut from the same source stay in the past.",
        )
        for figure in BY_SOURCE
    ),
    Figure(
        "task_aware_by_task.csv",
        "Accuracy against epochs",
        "Best validation accuracy after so many epochs, eta = 2, mean over repetitions "
        "(HyperSTAR, figures 3 and 4, a picture for each data set).",
        "method",
        "epochs",
        "best_value",
        "",
        "epochs spent",
        "best accuracy",
        log_x=True,
        keep=(
            "task-aware Hyperband",
            "mean-rank Hyperband",
            "Hyperband",
            "BOHB",
            "Tr-AutoML list",
            "portfolio",
        ),
        where=("task", None),
    ),
    *(
        Figure(
            f"field/{name}-curves.csv",
            f"Average rank in the gray-box field: {title}",
            "Among the methods on the tasks that all of them ran; lower is better (DyHPO, "
            "figure 5).",
            "method",
            "epochs",
            "rank",
            "",
            "epochs spent",
            "average rank",
            log_x=True,
        )
        for name, title in DATABASES
    ),
    *(
        Figure(
            "at2/pairs.csv",
            f"The AT2 paper's five train-test pairs of {database}",
            "Simple regret against iterations; an iteration is one epoch of one "
            "configuration (AT2, figure 4).",
            "method",
            "iteration",
            "regret",
            "regret_se",
            "iterations",
            "simple regret",
            log_x=True,
            log_y=True,
            where=("database", database),
        )
        for database in ("HyperRec", "LCBench")
    ),
)
TABLES: tuple[Table, ...] = (
    Table(
        "rankings/summary.csv",
        "Rankings before anything is trained",
        "Every source in turn held out: AP@10, precision of the first 10, normalized regret "
        "of the first, AP@10 over the task-agnostic list; "
        "mean and standard error over held-out tasks.",
        "recommender",
    ),
    Table(
        f"{ALONE}/rankings/summary.csv",
        "Rankings before anything is trained: tasks held out alone",
        "Tasks cut from the same source stay in the past.",
        "recommender",
    ),
    Table(
        "photos/rankings/summary.csv",
        "Rankings before anything is trained: photographs and scans",
        "The second meta-dataset, 16 tasks x 36 configurations; every source in turn held out.",
        "recommender",
    ),
    Table(
        "rankings/tasks.csv", "Rankings by task", "Every source in turn held out; mean over trials."
    ),
    *(
        Table(folder + file, title + what, about)
        for folder, what in (("", ""), (f"{ALONE}/", ": tasks held out alone"))
        for file, title, about in (
            (
                "task_aware.csv",
                "Task-aware Hyperband at the budgets",
                "Normalized regret; mean and standard error over tasks.",
            ),
            (
                "task_aware_share.csv",
                "Share of the budget",
                "Share of a budget after which the mean curve of a method is as good as "
                "another's at the end of that budget.",
            ),
            (
                "siamese_distances.csv",
                "Distances that the Siamese network predicts",
                "Rank correlation with the true distances, and the chosen neighbours' true "
                "distance as a share of the mean one.",
            ),
        )
    ),
    *(
        Table(
            f"field/{name}-regret.csv",
            f"The gray-box field without history: {title}",
            "Normalized regret at budgets in epochs; mean and standard error over the tasks "
            "that a method ran; median milliseconds of a decision.",
        )
        for name, title in DATABASES
    ),
    *(
        Table(
            f"field/{name}-tests.csv",
            f"Pairs of methods: {title}",
            "Friedman test, and Wilcoxon's with Holm's correction for each pair.",
        )
        for name, title in DATABASES
    ),
    Table(
        "field/peers.csv",
        "Other libraries side by side",
        "make bench: LCBench, five tasks; regret at budgets in epochs.",
    ),
    Table(
        "at2/summary.csv",
        "AT2's pairs",
        "Simple regret and rank of the recommended configuration after 10, 25, 50, 100 iterations.",
    ),
    Table(
        "at2/elbo.csv",
        "AT2's kernel products",
        "Held-out evidence lower bound by size (full: the paper's), ours and the paper's.",
    ),
)
DIAGRAMS = tuple(
    (f"field/{name}-{budget}.svg", f"Critical differences after {budget:,} epochs: {title}")
    for name, title in DATABASES
    for budget in ((50, 100, 200) if name == "light" else (200, 600, 1000))
)
# thousands of rows by task: to compute with, not to look at
RAW = ("siamese_tasks.csv", "task_aware_tasks.csv")
# not shown again
SHOWN = frozenset(f.file for f in FIGURES) | frozenset(t.file for t in TABLES) | frozenset(RAW)


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
            text = path.read_text()
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
        metric = figure.y_label.replace(" ", "_")
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
            found = [
                (str(k).replace("@", "_at_").replace(" ", "_"), float(v), 0)
                for k, v in row.items()
                if np.isfinite(v)
            ]
            out.setdefault(f"{table.file.removesuffix('.csv')}: {name}", []).extend(found)
    return out
