"""Sheets of small panels as SVG files with a style of their own."""

from collections.abc import Sequence
from html import escape

from foretune.views.charts import Frame, Line, line_chart, series_style

STYLE = """<style>
svg { --ink: #16181d; --ink2: #5b6068; --grid: #e6e6e1; --axis: #b9bbb6; --card: #ffffff; --muted: #a9adb3;
  --s0: #1f6fd0; --s1: #d9632b; --s2: #12906a; --s3: #b57b00; --s4: #5a47b8; --s5: #c9548c; --s6: #2f7d1f; --s7: #cf3a3a; }
@media (prefers-color-scheme: dark) { svg { --ink: #eceef1; --ink2: #a4abb5; --grid: #2b2f37; --axis: #555c67; --card: #1b1e24; --muted: #59606b;
  --s0: #5aa2f5; --s1: #ef8a57; --s2: #35bd92; --s3: #d9a536; --s4: #a294f2; --s5: #e783b2; --s6: #69b457; --s7: #f07070; } }
text { fill: var(--ink2); font: 12px sans-serif; } text.name { fill: var(--ink); font-weight: 600; }
text.label { fill: currentColor; font-weight: 600; } .card { fill: var(--card); } .grid { stroke: var(--grid); } .axis, .tick { stroke: var(--axis); }
.line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; } .dot { fill: currentColor; }
.band { fill: currentColor; opacity: .13; } .muted { color: var(--muted); } .dash1 { stroke-dasharray: 5 4; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); } .s3 { color: var(--s3); }
.s4 { color: var(--s4); } .s5 { color: var(--s5); } .s6 { color: var(--s6); } .s7 { color: var(--s7); }
</style>"""
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
