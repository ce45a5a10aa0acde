"""A line chart as SVG, with nothing but the standard library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 300, 220, 48, 28, 40  # of a panel, and its margins
STEP: Final = WIDTH + LEFT + 36  # from one panel to the next: room for the lines' names
COLOURS: Final = ("#1b6ca8", "#d1495b", "#555555", "#3c8d40")
TICKS: Final = 4
LABEL: Final = 12  # between the baselines of two names


@dataclass(frozen=True, slots=True)
class Line:
    """A named run of points, x rising and above 0."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(panels: Mapping[str, Sequence[Line]], *, x_label: str, y_label: str) -> str:
    """Panels side by side; x by its logarithm, y from the least to the largest value of the panel."""
    parts = [_panel(title, lines, place, x_label, y_label) for place, (title, lines) in enumerate(panels.items())]
    width = max(1, len(panels)) * STEP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT + TOP + BOTTOM}"'
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="11">', paper, *parts, "</svg>\n"])


def _panel(title: str, lines: Sequence[Line], place: int, x_label: str, y_label: str) -> str:
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    low, high = min(ys), max(ys)
    room = (high - low) or 1.0
    reach = math.log(xs[-1] / xs[0]) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = 12 + (WIDTH - 90) * math.log(x / xs[0]) / reach
        return round(across, 1), round(HEIGHT - 12 - (HEIGHT - 24) * (y - low) / room, 1)

    parts = [f'<g transform="translate({place * STEP + LEFT},{TOP})">']
    parts.append(f'<text x="0" y="-12" font-weight="bold">{escape(title)}: {escape(y_label)}</text>')
    parts.append(f'<path d="M0,0 V{HEIGHT} H{WIDTH - 66}" fill="none" stroke="black"/>')
    for x in xs:
        parts.append(f'<text x="{at(x, low)[0]}" y="{HEIGHT + 14}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{WIDTH / 2 - 33}" y="{HEIGHT + 30}" text-anchor="middle">{escape(x_label)}</text>')
    for tick in range(TICKS + 1):
        y = low + (high - low) * tick / TICKS
        parts.append(f'<text x="-4" y="{at(xs[0], y)[1] + 4}" text-anchor="end">{y:.3f}</text>')
    ends = [at(*line.points[-1]) for line in lines]
    for line, colour, (across, _), down in zip(lines, COLOURS, ends, _apart([down for _, down in ends])):
        path = " ".join(f"{across},{down}" for across, down in (at(x, y) for x, y in line.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{across + 6}" y="{down + 4}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</g>"])


def _apart(heights: Sequence[float]) -> list[float]:
    """The heights of names, moved down as far as each needs to be read beside the one above it."""
    placed = list(heights)
    above = -math.inf
    for i in sorted(range(len(heights)), key=heights.__getitem__):
        placed[i] = above = max(heights[i], above + LABEL)
    return [round(height, 1) for height in placed]
