"""AT2's figures, drawn from the tables of `pairs` and `tables` beside this file, as SVG files.

    python -m papers.at2.figures [--reports data/reports/at2]

| picture          | paper              | shows                                                    |
|------------------|--------------------|----------------------------------------------------------|
| figure1          | figures 1, 4, 15   | simple regret and final performance ranking against      |
|                  |                    | iterations, with standard errors over pairs              |
| figure3          | figures 3, 6 to 13 | predicted against true distance of pairs of              |
|                  |                    | observations, a line per kernel product (best of each)   |
| figure5-DATABASE | figures 5, 14      | AT2's forecast beside what was observed later, after     |
|                  |                    | each of some iterations                                  |

`calibration` says how far those forecasts' standard deviations can be trusted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.views.charts import Line, series_style
from papers.command import command
from papers.page.sheets import panel, sheet

NORMAL_90 = 1.645  # half of the central 90 % interval, in standard deviations


def calibration(forecast: pd.DataFrame) -> pd.DataFrame:
    """Root mean squared error, mean deviation and share within the 90 % interval.

    By database and iteration, over cells not yet observed.
    """
    later = forecast[~forecast["queried"] & forecast["observed"].notna()]
    wrong = later["mean"] - later["observed"]
    each = later.assign(squared=wrong**2, inside=wrong.abs() <= NORMAL_90 * later["std"])
    out = each.groupby(["database", "iteration"]).agg(
        rmse=("squared", "mean"),
        std=("std", "mean"),
        inside=("inside", "mean"),
        cells=("std", "size"),
    )
    out["rmse"] = np.sqrt(out["rmse"])
    return out.round(4).reset_index()


def figure_1(pairs: pd.DataFrame) -> str:
    """Regret and ranking (0 is best) of every method on each database."""
    methods, panels = sorted(set(pairs["method"])), []
    for database, rows in pairs.groupby("database"):
        for column, label in (
            ("regret", "simple regret"),
            ("rank_smoothed", "final performance ranking"),
        ):
            lines = []
            for k, method in enumerate(methods):
                own = rows[rows["method"] == method].sort_values("iteration")
                y = own[column].to_numpy(float)
                error = own["regret_se" if column == "regret" else "rank_se"].to_numpy(float)
                band = (y - error, y + error) if method == "at2" else (None, None)
                lines.append(
                    Line(
                        own["iteration"].tolist(),
                        y.tolist(),
                        method,
                        series_style(k),
                        low=band[0],
                        high=band[1],
                    )
                )
            panels.append(
                (f"{database}: {label}", panel(lines, "epochs", label, log_x=False, top=None))
            )
    return sheet(
        "AT2's five pairs; band: one standard error of at2 over pairs", panels, methods, columns=2
    )


def figure_3(distances: pd.DataFrame, elbo: pd.DataFrame) -> str:
    """Predicted against true distance of the best product of each task kernel.

    By decile of the true distance.
    """
    small = elbo[elbo["size"] == "small"].sort_values("elbo", ascending=False)
    chosen = small.drop_duplicates("task")
    names, lines = [], []
    for k, (product, task) in enumerate(zip(chosen["product"], chosen["task"], strict=True)):
        own = distances[
            (distances["product"] == product) & (distances["size"] == "small")
        ].sort_values("true")
        spread = own["spread"].fillna(0)
        names.append(f"{product} ({task})")
        lines.append(
            Line(
                own["true"].tolist(),
                own["predicted"].tolist(),
                names[-1],
                series_style(k),
                low=(own["predicted"] - spread).tolist(),
                high=(own["predicted"] + spread).tolist(),
            )
        )
    chart = panel(lines, "true distance", "predicted distance", log_x=False, top=None)
    return sheet(
        "Distance of two observations", [("best product of each task kernel", chart)], names
    )


def figure_5(forecast: pd.DataFrame, database: str) -> str:
    """Forecasts (dots, with a central 90 % interval) against what was observed later.

    On the diagonal they are right.
    """
    rows = forecast[
        (forecast["database"] == database) & ~forecast["queried"] & forecast["observed"].notna()
    ]
    low, high = float(rows["observed"].min()), float(rows["observed"].max())
    panels = []
    for iteration, own in rows.groupby("iteration"):
        lines = [Line([low, high], [low, high], style="muted dash1", title="forecast = observed")]
        for observed, mean, std in own[["observed", "mean", "std"]].itertuples(index=False):
            reach = NORMAL_90 * std
            lines.append(
                Line(
                    [observed, observed],
                    [mean - reach, mean + reach],
                    style="s0",
                    title=f"{mean:.3f}",
                )
            )
            lines.append(
                Line(
                    [observed],
                    [mean],
                    style="s1",
                    title=f"{mean:.3f}, observed {observed:.3f}",
                    dot=True,
                )
            )
        panels.append(
            (
                f"after {iteration} epochs",
                panel(lines, "observed later", "forecast", log_x=False, top=None),
            )
        )
    return sheet(
        f"{database}, first pair: AT2's forecasts of 10 configurations, with 90 % intervals", panels
    )


def figures(folder: Path) -> dict[str, str]:
    """All pictures whose tables are in `folder`, by file name.

    Raises `BadInput` if there is none.
    """
    tables = {p.stem: pd.read_csv(p) for p in sorted(folder.glob("*.csv"))}
    out = {}
    if "pairs" in tables:
        out["figure1.svg"] = figure_1(tables["pairs"])
    if {"distances", "elbo"} <= set(tables):
        out["figure3.svg"] = figure_3(tables["distances"], tables["elbo"])
    if "forecast" in tables:
        for database in sorted(set(tables["forecast"]["database"])):
            out[f"figure5-{database}.svg"] = figure_5(tables["forecast"], database)
    if not out:
        raise BadInput(
            f"{folder} holds none of AT2's tables: run papers.at2.pairs or papers.at2.tables first"
        )
    return out


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Draw the figures and write `calibration.csv`."""
    parser = argparse.ArgumentParser(prog="python -m papers.at2.figures", description=main.__doc__)
    parser.add_argument(
        "--reports", type=Path, default=Path("data/reports/at2"), help="folder of the tables"
    )
    given = parser.parse_args(argv)
    drawn = figures(given.reports)
    for name, text in drawn.items():
        write_atomic(given.reports / name, text)
    if (given.reports / "forecast.csv").is_file():
        table = calibration(pd.read_csv(given.reports / "forecast.csv"))
        write_atomic(given.reports / "calibration.csv", table.to_csv(index=False))
        print(table.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
