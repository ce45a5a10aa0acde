"""The figures as bars, a panel a task, in SVG with nothing but the standard library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, Protocol

BAR, GAP, NAMES, WIDTH, TOP = 14, 4, 170, 300, 34
COLOURS: Final = {"PV": "#555555", "RN": "#1b6ca8", "RO": "#7fb2d9", "DW": "#d1495b", "ROW": "#3c8d40"}


class Shown(Protocol):
    """What a bar shows."""

    @property
    def task(self) -> str: ...
    @property
    def representation(self) -> str: ...
    @property
    def mean(self) -> float: ...
    @property
    def spread(self) -> float: ...


def bars(figures: Sequence[Shown]) -> str:
    """One panel below the other; a thin line shows the spread over seeds."""
    parts, down = list[str](), 0
    for task in dict.fromkeys(figure.task for figure in figures):
        rows = sorted((figure for figure in figures if figure.task == task), key=lambda figure: -figure.mean)
        most = max(1e-9, *(figure.mean + figure.spread for figure in rows))
        parts.append(f'<text x="8" y="{down + 20}" font-weight="bold">{escape(task)}</text>')
        for place, figure in enumerate(rows):
            top = down + TOP + place * (BAR + GAP)
            length, spread = WIDTH * max(figure.mean, 0) / most, WIDTH * figure.spread / most
            name = escape(figure.representation)
            colour = COLOURS.get(figure.representation.split()[0], "#b08d57")
            parts.append(f'<text x="{NAMES - 6}" y="{top + 11}" text-anchor="end">{name}</text>')
            parts.append(f'<rect x="{NAMES}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
            left, right = NAMES + length - spread, NAMES + length + spread
            parts.append(f'<path d="M{left:.1f},{top + 7} H{right:.1f}" stroke="black"/>')
            parts.append(f'<text x="{right + 6:.1f}" y="{top + 11}">{figure.mean:.3f}</text>')
        down += TOP + len(rows) * (BAR + GAP) + 12
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{NAMES + WIDTH + 70}" height="{down}"'
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="11">', paper, *parts, "</svg>\n"])
