"""Small charts as inline SVG: lines with bands, and parallel coordinates.

Colours are CSS classes (`s0` .. `s7`, `muted`, `accent`, `p0` .. `p4`) that the page's style gives
a light and a dark value, so one picture serves both and print. Text that comes from outside is
escaped here. Every mark carries a `<title>`, which browsers show under the pointer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

TICK = 13  # letters of a tick of parallel coordinates, cut beyond
END_LABELS = 12  # lines whose ends can carry their names
END_LENGTH = 28  # characters of a name there: longer ones would take the chart's place
SERIES = 8  # colours; more lines repeat them dashed
Format = Callable[[float], str]
Place = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """Points `x`, `y` (NaN leaves a gap), with an optional band `low` to `high`.

    `steps` draws stairs, `cross` marks the end with an x.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    style: str = "s0"
    title: str = ""
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    steps: bool = False
    cross: bool = False
    dot: bool = False


@dataclass(frozen=True)
class Frame:
    """Size in pixels, axis labels and scales of a chart. `y_range` cuts what lies outside."""

    width: int = 760
    height: int = 340
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    x_format: Format = lambda v: f"{v:,.6g}"
    y_format: Format = lambda v: f"{v:,.6g}"
    y_range: tuple[float, float] | None = None
    end_labels: bool = True


def series_style(k: int) -> str:
    """The classes of the k-th line of a chart."""
    return f"s{k % SERIES}" + (f" dash{k // SERIES}" if k >= SERIES else "")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between `low` and `high`, in steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Powers of ten between `low` and `high`, with 2 and 5 times them where there is room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [f * 10.0**p for p in powers for f in factors]
        inside = [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(inside) <= most:
            return inside
    every = -(-len(inside) // most)
    return inside[::every]


def responsive(draw: Callable[[Frame], str], frame: Frame, narrow_height: int = 300) -> str:
    """The chart twice, for wide screens and for phones; the page's style shows one of them.

    For phones it is small, with a legend instead of labels at the lines' ends.
    """
    small = replace(frame, width=380, height=narrow_height, end_labels=False)
    return f'<div class="wide">{draw(frame)}</div><div class="narrow">{draw(small)}</div>'


def legend(lines: Sequence[Line]) -> str:
    """Colours and names of the named lines, as HTML.

    For phones only where the lines' ends carry their names.
    """
    named = [line for line in lines if line.label]
    items = [
        '<li><svg viewBox="0 0 24 8" width="24" height="8" aria-hidden="true"><path '
        f'class="line {line.style}" d="M1 4H23"/></svg>{escape(line.label)}</li>'
        for line in named
    ]
    width = "narrow" if fit_at_ends(named) else ""
    return f'<div class="{width}"><ul class="legend">{"".join(items)}</ul></div>'


def fit_at_ends(named: Sequence[Line]) -> bool:
    """Whether the lines' names fit at the lines' ends."""
    return len(named) <= END_LABELS and all(len(line.label) <= END_LENGTH for line in named)


def line_chart(lines: Sequence[Line], frame: Frame) -> str:
    """Draw `lines` in order, so the last lies on top. Empty text if no line has a finite point."""
    xs = np.array([x for line in lines for x in line.x], dtype=float)
    columns = [v for line in lines for v in (line.y, line.low, line.high) if v is not None]
    ys = np.array([y for column in columns for y in column], dtype=float)
    ys = ys[np.isfinite(ys) & ((ys > 0) | (not frame.log_y))]
    if not len(xs) or not len(ys):
        return ""
    low, high = frame.y_range or (float(ys.min()), float(ys.max()))
    if not frame.log_y:
        pad = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
        low, high = low - pad, high + pad
    elif high <= low:
        low, high = low / 2, high * 2
    x_low, x_high = float(xs.min()), float(xs.max())
    if x_high <= x_low:
        x_low, x_high = (x_low / 2, x_high * 2) if frame.log_x else (x_low - 0.5, x_high + 0.5)
    y_ticks = log_ticks(low, high) if frame.log_y else ticks(low, high, 5)
    if frame.log_x:
        x_ticks = log_ticks(x_low, x_high)
    else:
        x_ticks = ticks(x_low, x_high, 4 if frame.width < 500 else 8)
    named = [line for line in lines if line.label]
    ends = frame.end_labels and len(named) > 1 and fit_at_ends(named)
    left = 14 + 7 * max((len(frame.y_format(t)) for t in y_ticks), default=1)
    right = 20 + (7 * max(len(line.label) for line in named) + 8 if ends else 0)
    top, bottom = 24, 44
    width, height = frame.width - left - right, frame.height - top - bottom

    def px(value: float) -> float:
        if frame.log_x:
            share = math.log(value / x_low) / math.log(x_high / x_low)
        else:
            share = (value - x_low) / (x_high - x_low)
        return left + width * share

    def py(value: float) -> float:
        if frame.log_y:
            share = math.log(max(value, low / 10) / low) / math.log(high / low)
        else:
            share = (value - low) / (high - low)
        return top + height * (1 - min(max(share, -9.0), 9.0))

    out = [_open(frame.width, frame.height, frame.y_label or "chart")]
    clip = f"c{frame.width}x{frame.height}x{left}x{right}"
    out.append(
        f'<clipPath id="{clip}"><rect x="{left - 4}" y="{top - 4}" width="{width + 8}" '
        f'height="{height + 8}"/></clipPath>'
    )
    for t in y_ticks:
        out.append(f'<path class="grid" d="M{left} {py(t):.1f}H{left + width}"/>')
        out.append(_text(left - 6, py(t) + 4, frame.y_format(t), "end"))
    for t in x_ticks:
        out.append(f'<path class="tick" d="M{px(t):.1f} {top + height}v4"/>')
        out.append(_text(px(t), top + height + 18, frame.x_format(t), "middle"))
    out.append(f'<path class="axis" d="M{left} {top + height}H{left + width}"/>')
    out.append(_text(left + width / 2, frame.height - 6, frame.x_label, "middle"))
    out.append(_text(4, 12, frame.y_label, "start"))
    out.append(f'<g clip-path="url(#{clip})">')
    for line in lines:
        out += _marks(line, px, py, frame.log_y)
    out.append("</g>")
    if ends:
        last = [(line, [float(v) for v in line.y if math.isfinite(v)]) for line in named]
        wanted = [(min(max(py(v[-1]), top), top + height), line) for line, v in last if v]
        for y, line in spread_labels(wanted, 14.0, top, top + height):
            out.append(_text(left + width + 8, y + 4, line.label, "start", f"label {line.style}"))
    return "".join(out) + "</svg>"


def spread_labels(
    wanted: list[tuple[float, Line]], gap: float, low: float, high: float
) -> list[tuple[float, Line]]:
    """Move labels apart to keep `gap`, within `low` to `high` as far as there is room."""
    placed = sorted(wanted, key=lambda pair: pair[0])
    ys = [y for y, _ in placed]
    for k in range(1, len(ys)):
        ys[k] = max(ys[k], ys[k - 1] + gap)
    if ys:
        ys[-1] = min(ys[-1], max(high, low + gap * (len(ys) - 1)))
    for k in range(len(ys) - 2, -1, -1):
        ys[k] = min(ys[k], ys[k + 1] - gap)
    return [(y, line) for y, (_, line) in zip(ys, placed, strict=True)]


def _marks(line: Line, px: Place, py: Place, log_y: bool) -> list[str]:
    title = f"<title>{escape(line.title or line.label)}</title>" if line.title or line.label else ""
    points = [
        (px(x), py(y))
        for x, y in zip(line.x, line.y, strict=True)
        if math.isfinite(y) and (y > 0 or not log_y)
    ]
    out = []
    if line.low is not None and line.high is not None:
        band = [
            (x, lo, hi)
            for x, lo, hi in zip(line.x, line.low, line.high, strict=True)
            if math.isfinite(lo) and math.isfinite(hi)
        ]
        upper = [(px(x), py(hi)) for x, _, hi in band]
        lower = [(px(x), py(lo)) for x, lo, _ in reversed(band)]
        out.append(f'<path class="band {line.style}" d="{_path(upper + lower)}Z"/>')
    if not points:
        return out
    if len(points) == 1 or line.dot:
        x, y = points[-1]
        out.append(
            f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{4 if line.dot else 2}">{title}</circle>'
        )
    if len(points) > 1:
        path = _path(points, line.steps)
        out.append(f'<path class="line {line.style}" d="{path}">{title}</path>')
    if line.cross:
        x, y = points[-1]
        out.append(f'<path class="cross" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8">{title}</path>')
    return out


def _path(points: Sequence[tuple[float, float]], steps: bool = False) -> str:
    if not points:
        return ""
    out = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    before = points[0][1]
    for x, y in points[1:]:
        if not steps:
            out.append(f"L{x:.1f} {y:.1f}")
        elif f"{y:.1f}" != f"{before:.1f}":
            out.append(f"H{x:.1f}V{y:.1f}")
            before = y
    if steps:
        out.append(f"H{points[-1][0]:.1f}")
    return "".join(out)


@dataclass(frozen=True)
class Coordinate:
    """An axis of parallel coordinates: each row's place in [0, 1], ticks (position, text).

    NaN where a row's value is switched off.
    """

    name: str
    positions: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def parallel_coordinates(
    axes: Sequence[Coordinate], styles: Sequence[str], titles: Sequence[str], height: int = 340
) -> str:
    """One line per row through all axes, in the order given (the last on top).

    `styles` are their classes.
    """
    if len(axes) < 2 or not titles:
        return ""
    gap = max(100, 690 // (len(axes) - 1))
    left, right = 14 + 7 * TICK, 90  # the first axis' ticks, and half of the last one's name
    width, top, bottom = left + gap * (len(axes) - 1) + right, 46, height - 14
    has_off = any(not math.isfinite(p) for axis in axes for p in axis.positions)
    floor = bottom - 30 if has_off else bottom
    out = [_open(width, height, "parallel coordinates")]
    xs = [left + gap * k for k in range(len(axes))]

    def py(position: float) -> float:
        return floor - (floor - top) * position if math.isfinite(position) else bottom

    for r, (style, title) in enumerate(zip(styles, titles, strict=True)):
        points = [(x, py(axis.positions[r])) for x, axis in zip(xs, axes, strict=True)]
        out.append(
            f'<path class="line {style}" d="{_path(points)}"><title>{escape(title)}</title></path>'
        )
    for k, (x, axis) in enumerate(zip(xs, axes, strict=True)):
        out.append(f'<path class="axis" d="M{x} {top}V{floor}"/>')
        out.append(
            _text(x, 14 + 16 * (k % 2), _cut(axis.name, gap // 5), "middle", "name", axis.name)
        )  # neighbours' names keep apart
        for position, text in axis.ticks:
            out.append(f'<path class="tick" d="M{x - 3} {py(position):.1f}h6"/>')
            out.append(_text(x - 7, py(position) + 4, _cut(text, TICK), "end", "halo", text))
        if any(not math.isfinite(p) for p in axis.positions):
            out.append(_text(x - 7, bottom + 4, "off", "end", "halo"))
    return "".join(out) + "</svg>"


MOST_CELLS = 24  # classes of a confusion matrix that is drawn


def confusion_chart(counts: np.ndarray, names: Sequence[str]) -> str:
    """Images of class i (row) that were taken for class j (column), the darker the larger their
    share of the row. Columns are numbered as the rows are. Empty text beyond `MOST_CELLS` classes.
    """
    classes = len(names)
    if classes > MOST_CELLS:
        return ""
    cell = 46 if classes <= 10 else 34
    left, top = 16 + 7 * min(22, max(len(name) for name in names) + 3), 26
    out = [_open(left + cell * classes + 8, top + cell * classes + 8, "confusion matrix")]
    totals = np.maximum(counts.sum(1), 1)
    for i, name in enumerate(names):
        y = top + cell * i
        label = f"{i + 1} {name}"
        out.append(_text(left - 8, y + cell / 2 + 4, _cut(label, 22), "end", "name", name))
        out.append(_text(left + cell * (i + 0.5), top - 8, str(i + 1), "middle", "name"))
        for j in range(classes):
            share, count = counts[i, j] / totals[i], int(counts[i, j])
            style = "s2" if i == j else "s1"
            title = f"{count} of {int(counts[i].sum())} {name}: taken for {names[j]}"
            x = left + cell * j
            out.append(
                f'<rect class="cell" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}"/>'
                f'<rect class="dot {style}" x="{x}" y="{y}" width="{cell - 2}" '
                f'height="{cell - 2}" opacity="{0.75 * share:.2f}"><title>{escape(title)}</title>'
                "</rect>"
            )
            if count:
                out.append(
                    _text(x + cell / 2 - 1, y + cell / 2 + 4, f"{count:,}", "middle", "name")
                )
    return "".join(out) + "</svg>"


def _open(width: int, height: int, label: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">'
    )


def _text(x: float, y: float, text: str, anchor: str, style: str = "", title: str = "") -> str:
    about = f"<title>{escape(title)}</title>" if title and title != text else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'class="{style}">{escape(text)}{about}</text>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
