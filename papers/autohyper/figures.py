"""The autoHyper paper's figures 1 to 4 and 6 to 8 from the small experiments, as SVG files.

| picture          | shows                                                                         |
|------------------|-------------------------------------------------------------------------------|
| figure1a         | Z and training loss after 5 epochs by rate, the chosen rate (ring) and the    |
|                  | suggested one (upright line)                                                  |
| figure1b         | how the Z of all searches' trials are distributed                             |
| figure2-NETWORK  | Z by rate for every optimizer, a line per task; rings: chosen, upright line:  |
|                  | suggested by the authors                                                      |
| figure3          | trials until the search ended                                                 |
| figure4          | Z and its running product to the power 0.8 along the search, of a network     |
|                  | that responds well and one less so                                            |
| figure6          | Z over learning rate and batch size                                           |
| figure7, figure8 | Z_t over 15 epochs by rate, of the plain and the residual network             |
"""

import math
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np
import pandas as pd

from foretune.views.charts import Frame, Line, line_chart, series_style
from papers.page.sheets import HEIGHT, STYLE, WIDTH, panel, rate_text, sheet

CELL = 46  # of figure 6
Frames = Mapping[str, pd.DataFrame]


def upright(rate: float, height: float, title: str) -> Line:
    """A line that marks a rate."""
    return Line([rate, rate], [0.0, height], style="muted dash1", title=title)


def by_rate(
    trials: pd.DataFrame, chosen: pd.DataFrame, column: str, k: int, name: str
) -> list[Line]:
    """A column of a search's trials against their rates, and a dot at the chosen one."""
    trials = trials.sort_values("rate")
    lines = [Line(trials["rate"].tolist(), trials[column].tolist(), name, series_style(k))]
    for rate in chosen["chosen"].to_numpy(float):
        near = trials.iloc[int(np.argmin(np.abs(np.log(trials["rate"].to_numpy(float) / rate))))]
        about = f"{name}: chosen rate {rate:.3g}"
        lines.append(
            Line([near["rate"]], [near[column]], style=series_style(k), title=about, dot=True)
        )
    return lines


def of(frame: pd.DataFrame, **where: str) -> pd.DataFrame:
    """The rows that have these values."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def named(frame: pd.DataFrame, column: str) -> list[str]:
    """The values of a column in the order in which they come."""
    return [str(v) for v in dict.fromkeys(frame[column])]


def figure_1a(rates: pd.DataFrame, responses: pd.DataFrame) -> str:
    """Z and training loss of one network and optimizer (the paper: ResNet-34 with Adam)."""
    rates, responses = (
        of(f, network="residual", optimizer="adam", variant="paper") for f in (rates, responses)
    )
    panels, tasks = [], named(rates, "task")
    for column, label, top in (
        ("z", "Z", 1.0),
        ("train_loss", "training loss after 5 epochs", None),
    ):
        lines = [
            line
            for k, task in enumerate(tasks)
            for line in by_rate(of(responses, task=task), of(rates, task=task), column, k, task)
        ]
        if lines:
            height = 1.0 if top else float(responses[column].max())
            lines.insert(0, upright(float(rates["suggested"].iloc[0]), height, "suggested rate"))
            panels.append((label, panel(lines, "learning rate", label, top=top)))
    title = "Adam on the residual network: Z beside the training loss; dots: chosen rates"
    return sheet(title, panels, tasks) if panels else ""


def figure_1b(responses: pd.DataFrame) -> str:
    """Distribution of Z over all trials of all searches."""
    edges = np.linspace(0, 1, 26)
    panels = []
    for name in named(responses, "network"):
        share = np.histogram(of(responses, network=name, variant="paper")["z"].dropna(), edges)[0]
        line = Line(
            edges.tolist(), [*(share / max(share.sum(), 1)).tolist(), 0.0], style="s0", steps=True
        )
        panels.append((name, panel([line], "Z", "share of trials", log_x=False, top=None)))
    return sheet("Z of the trials of all searches", panels)


def figure_2(rates: pd.DataFrame, responses: pd.DataFrame, network: str) -> str:
    """Z by rate for each optimizer."""
    rates, responses = (of(f, network=network, variant="paper") for f in (rates, responses))
    panels, tasks = [], named(rates, "task")
    for optimizer in named(rates, "optimizer"):
        mine, trials = of(rates, optimizer=optimizer), of(responses, optimizer=optimizer)
        lines = [upright(float(mine["suggested"].iloc[0]), 1.0, "suggested rate")]
        for k, task in enumerate(tasks):
            if len(own := of(trials, task=task)):
                lines += by_rate(own, of(mine, task=task), "z", k, task)
        panels.append((optimizer, panel(lines, "learning rate", "Z")))
    return sheet(
        f"Z by learning rate, {network} network; dots: chosen, dashed: suggested", panels, tasks
    )


def figure_3(rates: pd.DataFrame) -> str:
    """Trials until the end of the search, by optimizer; a dot per network and task."""
    rates = of(rates, variant="paper")
    names, networks = named(rates, "optimizer"), named(rates, "network")
    panels = []
    for task in named(rates, "task"):
        # room beside the first and the last
        lines = [Line([-0.5, len(names) - 0.5], [math.nan, math.nan])]
        for k, name in enumerate(networks):
            mine = of(rates, task=task, network=name)
            for optimizer, trials in zip(
                mine["optimizer"].astype(str), mine["trials"].to_numpy(int), strict=True
            ):
                about = f"{optimizer}, {name}: {trials}"
                x = names.index(optimizer) + 0.15 * (k - 1)
                lines.append(
                    Line([x], [float(trials)], style=series_style(k), dot=True, title=about)
                )
        frame = Frame(
            WIDTH,
            HEIGHT,
            y_label="trials",
            x_format=lambda v: (
                names[round(v)] if abs(v - round(v)) < 1e-6 and 0 <= round(v) < len(names) else ""
            ),
            y_format=lambda v: f"{v:g}",
            y_range=(0.0, float(rates["trials"].max())),
            end_labels=False,
        )
        panels.append((task, line_chart(lines, frame)))
    return sheet("Trials until the search ended", panels, networks, columns=2)


def figure_4(responses: pd.DataFrame) -> str:
    """Z and its running product along the rates of the first grids."""
    responses = of(responses, variant="paper", optimizer="adam")
    panels = []
    for name in named(responses, "network"):
        trials = of(responses, network=name, task=named(responses, "task")[0])
        lines = [
            Line(list(range(1, len(trials) + 1)), trials[column].tolist(), label, series_style(k))
            for k, (column, label) in enumerate((("z", "Z"), ("product", "running product ^ 0.8")))
        ]
        panels.append((name, panel(lines, "trial", "", log_x=False)))
    return sheet(
        "Along a search with Adam: the product restarts with every grid",
        panels,
        ("Z", "running product ^ 0.8"),
    )


def figure_6(surface: pd.DataFrame) -> str:
    """Z over learning rate and batch size, as a map per task."""
    parts = []
    y = 40
    rates, sizes = sorted(set(surface["rate"])), sorted(set(surface["batch"]))
    width = 90 + CELL * len(rates)
    for task in named(surface, "task"):
        parts.append(
            f'<text x="12" y="{y}" class="name">{escape(task)}: Z by learning rate (across) '
            "and batch size</text>"
        )
        for row, size in enumerate(sizes):
            top = y + 12 + row * CELL // 2
            parts.append(f'<text x="70" y="{top + 16}" text-anchor="end">{size}</text>')
            for cell in surface[
                (surface["task"] == task) & (surface["batch"] == size)
            ].itertuples():
                left = 80 + CELL * rates.index(cell.rate)
                about = (
                    f"<title>batch {size}, rate {cell.rate:.3g}: Z {cell.z:.3f}, training "
                    f"loss {cell.train_loss:.3f}</title>"
                )
                shade = cell.z if math.isfinite(cell.z) else 0.0
                box = f'x="{left}" y="{top}" width="{CELL}" height="{CELL // 2}"'
                parts.append(
                    f'<rect class="s0" {box} fill="currentColor" '
                    f'fill-opacity="{0.75 * shade:.2f}">{about}</rect>'
                )
                parts.append(
                    f'<text x="{left + CELL / 2}" y="{top + 16}" '
                    f'text-anchor="middle">{cell.z:.2f}</text>'
                )
        y += 28 + len(sizes) * CELL // 2
        for k, rate in enumerate(rates):
            parts.append(
                f'<text x="{80 + CELL * (k + 0.5)}" y="{y}" '
                f'text-anchor="middle">{rate_text(rate)}</text>'
            )
        y += 36
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" '
        f'width="{width}" height="{y}">{STYLE}'
    )
    return (
        "\n".join([head, f'<rect class="card" width="{width}" height="{y}"/>', *parts, "</svg>"])
        + "\n"
    )


def figure_7(long: pd.DataFrame, network: str) -> str:
    """Z_t over the epochs for each rate: most of the way is over after five."""
    long = of(long, network=network)
    rates = sorted(set(long["rate"]))
    panels = []
    for optimizer in named(long, "optimizer"):
        lines = [
            Line(
                own["epoch"].tolist(),
                own["z"].tolist(),
                style=series_style(k),
                title=f"rate {rate:.3g}",
            )
            for k, rate in enumerate(rates)
            if len(own := long[(long["optimizer"] == optimizer) & (long["rate"] == rate)])
        ]
        panels.append(
            (
                optimizer,
                panel(
                    [Line([5.0, 5.0], [0.0, 1.0], style="muted dash1"), *lines],
                    "epoch",
                    "Z",
                    log_x=False,
                ),
            )
        )
    return sheet(
        f"Z over 15 epochs by learning rate, {network} network",
        panels,
        [f"{r:.1e}" for r in rates],
        columns=2,
    )


def pictures(frames: Frames) -> dict[str, str]:
    """File name (without ending) -> SVG, of what the tables at hand suffice for."""
    out: dict[str, str] = {}
    if "learning_rates" in frames:
        rates, responses = frames["learning_rates"], frames["responses"]
        out |= {"figure1a": figure_1a(rates, responses), "figure1b": figure_1b(responses)}
        out |= {
            f"figure2-{name}": figure_2(rates, responses, name) for name in named(rates, "network")
        }
        out |= {"figure3": figure_3(rates), "figure4": figure_4(responses)}
    if "batch_size" in frames:
        out["figure6"] = figure_6(frames["batch_size"])
    if "long" in frames:
        shown: Iterable[tuple[int, str]] = zip((7, 8), ("plain", "residual"), strict=True)
        out |= {
            f"figure{k}": figure_7(frames["long"], name)
            for k, name in shown
            if name in set(frames["long"]["network"])
        }
    return {name: picture for name, picture in out.items() if picture}
