"""Plots as SVG text, without a library: lines with a band, bars, and lines that mark limits. Colours are CSS classes.

A plot is drawn at a fixed size and scaled by the page. Text is sized in the plot's own units; its width is estimated,
since nothing here knows the font.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

WIDTH: Final = 640.0
HEIGHT: Final = 380.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 18.0, 52.0, 50.0
CHARACTER: Final = 6.3  # of 12 px text, on average
LEGEND_LINE: Final = 18.0


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together; `low` and `high` are the band around y, if there is one."""

    name: str
    style: str  # CSS class: "ours", "c1" ...
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    is_line: bool = True
    marks: Sequence[str] = ()  # of each point: "circle", "square", "diamond"; circles if not given
    titles: Sequence[str] = ()  # what hovering over a point shows


@dataclass(frozen=True, slots=True)
class Limit:
    """A line that nothing should cross: y = min(slope * x, top)."""

    name: str
    slope: float = math.inf
    top: float = math.inf


@dataclass(frozen=True, slots=True)
class Axis:
    """What runs along it, with its unit."""

    label: str
    is_log: bool = False
    starts_at_zero: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool
    ticks: tuple[float, ...] = field(default=())

    def place(self, value: float) -> float:
        """Where a value lies."""
        turn: Callable[[float], float] = math.log10 if self.is_log else float
        low, high = turn(self.low), turn(self.high)
        share = (turn(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def line_plot(
    title: str, x: Axis, y: Axis, series: Sequence[Series], limits: Sequence[Limit] = (), detail: str = ""
) -> str:
    """Lines or points over two axes, with a legend below; `detail` is a second, smaller line of the title."""
    xs = [value for each in series for value in each.x]
    ys = [value for each in series for value in (*each.y, *each.low, *each.high)]
    ys += [limit.top for limit in limits if math.isfinite(limit.top)]
    rows = _legend_rows([(each.name, each.style) for each in series])
    height = HEIGHT + LEGEND_LINE * len(rows)
    across = _scale(xs, x, LEFT, WIDTH - RIGHT)
    up = _scale(ys, y, HEIGHT - BOTTOM, TOP)
    parts = [_text("tick", 12, 36, detail)] if detail else []
    parts.append(_axes(x, y, across, up))
    lines, names = _limits(limits, across, up)
    parts += [*lines, *names]  # below the points: these are what the plot is about
    for each in series:
        parts.append(_series(each, across, up))
    parts.append(_legend(rows, HEIGHT + 4))
    return _svg(title, height, parts)


def bar_plot(title: str, unit: str, groups: Sequence[tuple[str, Sequence[tuple[str, str, float, str]]]]) -> str:
    """Horizontal bars: groups of (contestant, style, value, what is written beside the bar)."""
    longest = max((len(name) for _, bars in groups for name, *_ in bars), default=0)
    left = 20 + CHARACTER * longest
    values = [value for _, bars in groups for _, _, value, _ in bars]
    written = max((len(text) for _, bars in groups for *_, text in bars), default=0)
    across = _Scale(0, max(values, default=1) or 1, left, WIDTH - RIGHT - CHARACTER * written - 8, False)
    parts: list[str] = []
    top = 40.0
    for group, bars in groups:
        parts.append(_text("group", 12, top + 12, group))
        top += 20
        for name, style, value, text in bars:
            width = max(across.place(value) - left, 1)
            parts.append(_text("tick", left - 8, top + 11, name, "end"))
            parts.append(_box(style, left, top, width, 14))
            parts.append(_text("value", left + width + 6, top + 11, text))
            top += 19
        top += 8
    parts.append(_text("label", left, top + 10, unit))
    return _svg(title, top + 22, parts)


def short_number(value: float) -> str:
    """For an axis: 0.05, 7, 250, 12k, 3M."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{name}"
    return f"{value:.3g}"


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start", turn: str = "") -> str:
    """A piece of text of a CSS class; `turn` is an SVG rotation."""
    rest = f' transform="rotate({turn})"' if turn else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{rest}>{escape(text)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _box(style: str, x: float, y: float, width: float, height: float) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="fill {style}" x="{x:.1f}" y="{y:.1f}" {size} rx="2"/>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
    return "\n".join([head, f'<text class="title" x="12" y="18">{escape(title)}</text>', *parts, "</svg>"])


def _scale(values: Sequence[float], axis: Axis, start: float, end: float) -> _Scale:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if axis.is_log:
        low, high = low / 1.15, high * 1.15
        return _Scale(low, high, start, end, True, _log_ticks(low, high))
    low = 0.0 if axis.starts_at_zero else low
    step = _nice_step((high - low) / 5 or 1.0)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    count = round((high - low) / step)
    return _Scale(low, high, start, end, False, tuple(low + step * number for number in range(count + 1)))


def _nice_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten, with twos and fives where there are few; of a narrow range powers of two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = tuple(f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high)
        if len(ticks) >= 4:
            break
    return ticks


def _axes(x: Axis, y: Axis, across: _Scale, up: _Scale) -> str:
    parts, bottom = [], HEIGHT - BOTTOM
    for tick in up.ticks:
        place = up.place(tick)
        parts.append(_line("grid", LEFT, place, WIDTH - RIGHT, place))
        parts.append(_text("tick", LEFT - 6, place + 4, short_number(tick), "end"))
    for tick in across.ticks:
        place = across.place(tick)
        parts.append(_line("grid", place, TOP, place, bottom))
        parts.append(_text("tick", place, bottom + 16, short_number(tick), "middle"))
    middle = (TOP + bottom) / 2
    parts.append(_text("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x.label, "middle"))
    parts.append(_text("label", 16, middle, y.label, "middle", f"-90 16 {middle:.1f}"))
    return "\n".join(parts)


def _series(series: Series, across: _Scale, up: _Scale) -> str:
    xs, ys = [across.place(value) for value in series.x], [up.place(value) for value in series.y]
    parts = []
    if series.low and series.is_line:
        there = [f"{x:.1f},{up.place(value):.1f}" for x, value in zip(xs, series.high, strict=True)]
        back = [f"{x:.1f},{up.place(value):.1f}" for x, value in zip(xs, series.low, strict=True)][::-1]
        parts.append(f'<polygon class="band {series.style}" points="{" ".join(there + back)}"/>')
    if series.is_line:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline class="line {series.style}" points="{points}"/>')
    for place, (x, y) in enumerate(zip(xs, ys, strict=True)):
        title = f"<title>{escape(series.titles[place])}</title>" if series.titles else ""
        parts.append(_mark(series.marks[place] if series.marks else "circle", series.style, x, y, title))
    return "\n".join(parts)


def _mark(kind: str, style: str, x: float, y: float, title: str) -> str:
    """A point; `title` is an element within it, or nothing."""
    if kind == "circle":
        return f'<circle class="fill {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{title}</circle>'
    reach = 3.2 if kind == "square" else 4.6
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1)) if kind == "square" else ((0, -1), (1, 0), (0, 1), (-1, 0))
    points = " ".join(f"{x + dx * reach:.1f},{y + dy * reach:.1f}" for dx, dy in corners)
    return f'<polygon class="fill {style}" points="{points}">{title}</polygon>'


def _limits(limits: Sequence[Limit], across: _Scale, up: _Scale) -> tuple[list[str], list[str]]:
    """Lines within the plot, and their names. A flat one's stands above its left end, where kernels that are held by
    memory have no points; or below, if another is close above. A slope's lies below its lower part."""
    lines, names, above = [], [], -math.inf
    for limit in sorted((each for each in limits if math.isfinite(each.top)), key=lambda each: -each.top):
        place = up.place(limit.top)
        name_at = place - 5 if place - above > LEGEND_LINE else place + 14
        above = place
        lines.append(_line("limit", across.start, place, across.end, place))
        names.append(_text("tick name", across.start + 4, name_at, limit.name))
    for limit in limits:
        if not math.isfinite(limit.top):
            low, high = max(across.low, up.low / limit.slope), min(across.high, up.high / limit.slope)
            if high > low:
                x1, y1 = across.place(low), up.place(low * limit.slope)
                x2, y2 = across.place(high), up.place(high * limit.slope)
                angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
                lines.append(_line("limit", x1, y1, x2, y2))
                names.append(_text("tick name", x1 + 8, y1 + 13, limit.name, turn=f"{angle:.1f} {x1:.1f} {y1:.1f}"))
    return lines, names


def _legend_rows(names: Sequence[tuple[str, str]]) -> list[list[tuple[str, str, float]]]:
    """Names in lines that fit: (name, style, x)."""
    rows: list[list[tuple[str, str, float]]] = [[]]
    x = LEFT
    for name, style in names:
        width = 22 + CHARACTER * len(name) + 14
        if rows[-1] and x + width > WIDTH - RIGHT:
            rows.append([])
            x = LEFT
        rows[-1].append((name, style, x))
        x += width
    return rows


def _legend(rows: Sequence[Sequence[tuple[str, str, float]]], top: float) -> str:
    parts = []
    for line, row in enumerate(rows):
        y = top + LEGEND_LINE * line
        for name, style, x in row:
            parts += [_box(style, x, y, 12, 12), _text("tick", x + 18, y + 10, name)]
    return "\n".join(parts)
