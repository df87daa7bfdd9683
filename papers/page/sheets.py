"""Sheets of small panels as SVG files with a style of their own."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from foretune.views.charts import Frame, Line, line_chart, series_style

STYLE = f"<style>\n{(Path(__file__).parent / 'sheet.css').read_text(encoding='utf-8')}</style>"
WIDTH, HEIGHT, HEAD = 400, 260, 26  # of a panel and its title, in pixels


def rate_text(rate: float) -> str:
    """A rate as axes show it."""
    return f"{rate:.0e}".replace("e-0", "e-").replace("e+0", "e") if rate < 1e-2 else f"{rate:.2g}"


def sheet(
    title: str, panels: Sequence[tuple[str, str]], names: Sequence[str] = (), columns: int = 3
) -> str:
    """Panels (title, chart) side by side in one SVG file, with a legend of the lines' names."""
    columns = min(columns, len(panels))
    legend_height = 24 if names else 0
    top = 30 + legend_height
    width, height = columns * WIDTH, top + -(-len(panels) // columns) * (HEIGHT + HEAD)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{STYLE}'
    ]
    out.append(
        f'<rect class="card" width="{width}" height="{height}"/><text x="12" y="20" '
        f'class="name">{escape(title)}</text>'
    )
    x = 12
    for k, name in enumerate(names):
        out.append(
            f'<path class="line {series_style(k)}" d="M{x} 40h18"/><text x="{x + 23}" '
            f'y="44">{escape(name)}</text>'
        )
        x += 40 + 7 * len(name)
    for k, (name, chart) in enumerate(panels):
        left, upper = k % columns * WIDTH, top + k // columns * (HEIGHT + HEAD)
        out.append(f'<text x="{left + 14}" y="{upper + 14}" class="name">{escape(name)}</text>')
        place = f'x="{left}" y="{upper + HEAD}" width="{WIDTH}" height="{HEIGHT}"'
        out.append(chart.replace('<svg class="chart"', f'<svg class="chart" {place}', 1))
    return "\n".join([*out, "</svg>"]) + "\n"


def panel(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = True,
    top: float | None = 1.0,
) -> str:
    """A chart of the size of a panel, from 0 to `top` (None: as the lines go)."""
    frame = Frame(
        WIDTH,
        HEIGHT,
        x_label=x_label,
        y_label=y_label,
        log_x=log_x,
        x_format=rate_text if log_x else lambda v: f"{v:g}",
        y_format=lambda v: f"{v:g}",
        y_range=(0.0, top) if top else None,
        end_labels=False,
    )
    return line_chart(lines, frame)
