"""The report of the benchmarks: regret against epochs by method and database, as one HTML file.

    python -m papers.page.report data/reports

reads `traces/NAME/*.parquet` (the steps that `foretune.evaluation.benchmark` keeps), with
`traces/NAME/about.json` beside them if there is one (`title`, `about`, `max_epoch`, `reference`:
label -> {full trainings: regret} of published figures), and the CSV and JSON tables of the folder;
it writes `benchmark.html` there.

Means are over tasks of a task's mean over seeds; bands are one standard error of that mean over
tasks, since tasks, not seeds, are the sample.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import regret_at
from foretune.files import write_atomic
from foretune.searchers.registry import METHODS
from foretune.views.charts import Frame, Line, legend, line_chart, responsive, series_style
from foretune.views.report import render
from foretune.views.summary import number
from papers.page.figures import diagrams, drawn, points
from papers.page.figures import tables as further
from papers.page.pictures import pictures

TRAININGS = (1, 2, 5, 10)  # budgets of the tables, in full trainings
FLOOR = 1e-4  # of the logarithmic axis: normalized regret below it is drawn there
POINTS = 60


@dataclass(frozen=True)
class Section:
    """One database of the report.

    The `steps` of all methods (see `evaluation.benchmark`), a full training's epochs, published
    figures, further tables by caption.
    """

    title: str
    steps: pd.DataFrame
    max_epoch: int
    about: str = ""
    reference: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def benchmark_report(
    sections: Sequence[Section],
    tables: Mapping[str, pd.DataFrame] | None = None,
    reports: Path | None = None,
) -> str:
    """The benchmark report as HTML.

    Figures and tables of the `reports` folder follow, `tables` (caption -> table) come at its end.

    Raises `BadInput` without any section or table.
    """
    if not sections and not tables:
        raise BadInput("there is nothing to report: no traces and no tables were found")
    return render(
        "benchmark.html",
        title="foretune: benchmarks",
        sections=[_section(s) for s in sections],
        figures=[]
        if reports is None
        else [(f.title, f.about, chart) for f, chart in drawn(reports)],
        diagrams=[] if reports is None else list(diagrams(reports)),
        pictures=[] if reports is None else list(pictures(reports)),
        further=[]
        if reports is None
        else [(t.title, t.about, *_table(frame)) for t, frame in further(reports)],
        tables=[(caption, *_table(t)) for caption, t in (tables or {}).items()],
        about={
            m: METHODS[m].about
            for m in dict.fromkeys(
                n.partition(":")[0] for s in sections for n in s.steps["method"].unique()
            )
            if m in METHODS
        },
    )


def read_sections(
    reports: Path | str, named: Sequence[str] = ()
) -> tuple[list[Section], dict[str, pd.DataFrame]]:
    """What a reports folder holds: its sections, and by name those of its CSV and JSON tables that
    are `named`, which the pipeline's stage depends on.

    Raises `BadInput` for files that cannot be read.
    """
    reports = Path(reports)
    sections = []
    for folder in sorted((reports / "traces").glob("*/")):
        if not (files := sorted(folder.glob("*.parquet"))):
            continue
        about: dict[str, Any] = {}
        try:
            if (folder / "about.json").is_file():
                about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            steps = pd.concat([pd.read_parquet(f) for f in files], ignore_index=True)
        except (OSError, ValueError) as error:
            raise BadInput(f"{folder} cannot be read: {error}") from error
        reference = {
            k: {int(t): float(v) for t, v in row.items()}
            for k, row in about.get("reference", {}).items()
        }
        most = int(about.get("max_epoch") or steps["epoch"].max())
        sections.append(
            Section(about.get("title", folder.name), steps, most, about.get("about", ""), reference)
        )
    tables: dict[str, pd.DataFrame] = {}
    for path in [reports / name for name in named]:
        try:
            if path.suffix == ".csv":
                tables[path.stem] = pd.read_csv(path)
            else:
                tables[path.stem] = _flat(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be read: {error}") from error
    return sections, tables


def mean_over_tasks(
    steps: pd.DataFrame, budgets: Sequence[int], column: str = "normalized_regret"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean and standard error of `column` at each budget (epochs).

    A row per method, a column per budget. NaN error for a single task.
    """
    by_task = regret_at(steps, budgets, column).groupby(["method", "task"]).mean()
    groups = by_task.groupby("method")
    return groups.mean(), groups.std(ddof=1).div(np.sqrt(groups.count()))


def summary_table(section: Section) -> pd.DataFrame:
    """A row a method: mean normalized regret and its standard error, runs, ms per decision.

    At 1, 2, 5 and 10 full trainings as far as runs go; best last first.
    """
    most = int(section.steps.groupby(["method", "task", "seed"])["spent"].max().max())
    counts = [k for k in TRAININGS if k * section.max_epoch <= most] or [1]
    mean, error = mean_over_tasks(section.steps, [k * section.max_epoch for k in counts])
    rows = []
    for name in mean.index:
        steps = section.steps[section.steps["method"] == name]
        row: dict[str, Any] = {"method": name}
        for k in counts:
            row[f"{k}"] = float(mean.loc[name, k * section.max_epoch])
            row[f"±{k}"] = float(error.loc[name, k * section.max_epoch])
        row |= {
            "tasks": steps["task"].nunique(),
            "seeds": steps["seed"].nunique(),
            "ms": 1000 * float(steps["seconds"].median()),
        }
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(f"{counts[-1]}", ignore_index=True)
    reach = reaches(section.steps)
    for k in counts:
        # nothing was run there: the last value is none of that budget
        beyond = table["method"].map(reach) < k * section.max_epoch
        table.loc[beyond, [f"{k}", f"±{k}"]] = np.nan
    return table


def reaches(steps: pd.DataFrame) -> pd.Series:
    """Most epochs that a method's runs were given, by method.

    Those that they spent where the steps do not say.
    """
    return steps.groupby("method")["budget" if "budget" in steps else "spent"].max()


def regret_chart(section: Section, column: str = "normalized_regret") -> str:
    """Mean of `column` against epochs spent, on log axes, with a band of one standard error."""
    ends = section.steps.groupby(["method", "task", "seed"])["spent"].max()
    # beyond its shortest run a method's mean would be over other tasks than before
    reach = ends.groupby("method").min()
    most = int(ends.max())
    budgets = sorted(
        {round(v) for v in np.geomspace(1, most, POINTS)}
        | set(range(section.max_epoch, most + 1, section.max_epoch))
    )
    mean, error = mean_over_tasks(section.steps, budgets, column)
    final = mean.iloc[:, -1].sort_values()
    lines = []
    for k, name in enumerate(mean.index):
        x = [b for b in budgets if b <= max(int(reach[name]), section.max_epoch)]
        y = np.maximum(mean.loc[name, x].to_numpy(dtype=float), FLOOR)
        half = np.nan_to_num(error.loc[name, x].to_numpy(dtype=float))
        title = f"{name}: {number(float(final[name]))} at {budgets[-1]:,} epochs"
        style = "muted thick" if name == "random" else series_style(k)
        lines.append(
            Line(
                x,
                y.tolist(),
                str(name),
                style,
                title,
                np.maximum(y - half, FLOOR).tolist(),
                (y + half).tolist(),
            )
        )
    frame = Frame(
        height=420,
        x_label=f"epochs spent (a full training is {section.max_epoch})",
        y_label="mean normalized regret",
        log_x=True,
        log_y=True,
        y_format=lambda v: f"{v:.4g}",
    )
    return responsive(lambda f: line_chart(lines, f), frame, 340) + legend(lines)


def task_table(section: Section) -> pd.DataFrame:
    """Normalized regret by task and method at the summary's largest budget, mean over seeds."""
    most = int(section.steps["spent"].max())
    k = max((k for k in TRAININGS if k * section.max_epoch <= most), default=1)
    at = regret_at(section.steps, [k * section.max_epoch]).groupby(["method", "task"]).mean()
    return at.iloc[:, 0].unstack("method").rename_axis(columns=None).reset_index()


def _section(section: Section) -> dict[str, Any]:
    table = summary_table(section)
    counts = [str(c) for c in table if str(c).isdigit()]
    lowest = {c: table[c].min() for c in counts}
    rows = []
    for record in table.to_dict("records"):
        cells = [
            (_regret(record[c]), record[c], _error(record[f"±{c}"]), record[c] <= lowest[c])
            for c in counts
        ]
        rows.append(
            {
                "method": record["method"],
                "cells": cells,
                "runs": f"{record['tasks']} × {record['seeds']}",
                "ms": number(record["ms"]),
            }
        )
    reference = [
        (label, [_regret(values[int(c)]) if int(c) in values else "" for c in counts])
        for label, values in section.reference.items()
    ]
    return {
        "title": section.title,
        "about": section.about,
        "chart": regret_chart(section),
        "trainings": counts,
        "rows": rows,
        "reference": reference,
        "tasks": _table(task_table(section)),
        "tables": [(caption, *_table(t)) for caption, t in section.tables.items()],
    }


def _regret(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "–"


def _error(value: float) -> str:
    return f"±{value:.4f}" if np.isfinite(value) else ""


def _table(frame: pd.DataFrame) -> tuple[list[str], list[list[tuple[str, Any]]]]:
    """Columns, and rows of (text, sort value)."""
    rows = [
        [("", "") if pd.isna(v) else (number(v), v) for v in record]
        for record in frame.itertuples(index=False)
    ]
    return [str(c) for c in frame.columns], rows


def _flat(value: Any) -> pd.DataFrame:
    """A JSON document as a table: records as they are, nested objects as dotted keys."""
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return pd.json_normalize(value)
    flat = pd.json_normalize(value if isinstance(value, dict) else {"value": value})
    return pd.DataFrame(
        {"key": flat.columns, "value": [str(v) if isinstance(v, list) else v for v in flat.iloc[0]]}
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Write the benchmark report of a reports folder."""
    parser = argparse.ArgumentParser(prog="python -m papers.page.report", description=main.__doc__)
    parser.add_argument("reports", type=Path, help="folder with traces/ and tables")
    parser.add_argument("--out", type=Path, help="default: benchmark.html in that folder")
    parser.add_argument(
        "--tracking",
        default="none",
        metavar="URI",
        help="log the figures to MLflow there too (default: none)",
    )
    parser.add_argument(
        "--tables",
        nargs="*",
        default=[],
        metavar="FILE",
        help="tables of that folder to show whole",
    )
    args = parser.parse_args(argv)
    out = args.out or args.reports / "benchmark.html"
    sections, tables = read_sections(args.reports, args.tables)
    write_atomic(out, benchmark_report(sections, tables, args.reports))
    print(out)
    if args.tracking != "none":
        from foretune.views.tracking import Tracker

        lines = {
            f"{s.title}: {name}": found
            for s in sections
            for name, found in regret_points(s).items()
        }
        Tracker(args.tracking, warn=print).log_report(
            "benchmarks", lines | points(args.reports), [out]
        )


def regret_points(section: Section) -> dict[str, list[tuple[str, float, int]]]:
    """Mean normalized regret of each method at full trainings, as points for MLflow.

    Points are (metric, value, epochs).
    """
    most = int(section.steps.groupby(["method", "task", "seed"])["spent"].max().max())
    budgets = [k * section.max_epoch for k in TRAININGS if k * section.max_epoch <= most]
    mean, _ = mean_over_tasks(section.steps, budgets)
    reach = reaches(section.steps)
    return {
        str(m): [("normalized_regret", float(mean.loc[m, b]), b) for b in budgets if b <= reach[m]]
        for m in mean.index
    }


if __name__ == "__main__":
    main()
