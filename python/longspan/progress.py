"""How far work is: a bar on a terminal and in a notebook, a line now and then elsewhere."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

SHOW_AFTER_SECONDS: Final = 1.0
LINE_EVERY_SECONDS: Final = 30.0
REDRAW_EVERY_SECONDS: Final = 0.2  # in a notebook, where each bar is a message to a browser
BYTES: Final = "B"


class _Display(Protocol):
    """IPython's handle of what a notebook shows."""

    def update(self, obj: object) -> object: ...


@contextmanager
def progress_bar(
    total: int | None, unit: str, show: bool | None, *, what: str = ""
) -> Iterator[Callable[[int], object]]:
    """A function to call with the number of units just done.

    On a terminal and in a notebook there is a bar, once the work has taken a second. Elsewhere, in a pipe or a log, a
    line on stderr every 30 seconds: counts, rate and time left.

    Args:
        total: units in all; None where that is not known.
        unit: what is counted, in the singular, or `BYTES`.
        show: None does that; True shows the bar at once, and a last line; False nothing.
        what: names the bar; "" for the unit's plural.
    """
    if show is False or sys.stderr is None:
        yield lambda _done: None
        return
    name = what or _plural(unit)
    if _is_notebook():
        meter = Meter(total, unit, name, _notebook_bar(show is True), REDRAW_EVERY_SECONDS)
    elif not sys.stderr.isatty():
        meter = Meter(total, unit, name, _print_line, LINE_EVERY_SECONDS, starts_silent=show is None)
    else:
        from tqdm import tqdm

        with tqdm(
            total=total, desc=name, unit=unit if unit == BYTES else f" {_plural(unit)}", unit_scale=True,
            delay=0.0 if show else SHOW_AFTER_SECONDS,
        ) as bar:  # fmt: skip
            yield bar.update
        return
    yield meter.advance
    meter.finish()


class Meter:
    """Counts, and says how far it is from time to time.

    Args:
        total, unit: as `progress_bar`.
        name: what the work is called.
        say: shows where the meter stands.
        every: seconds between two times.
        starts_silent: whether nothing is said at the end of work that took less than that.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        name: str,
        say: Callable[[Meter], object],
        every: float,
        *,
        starts_silent: bool = False,
    ) -> None:
        self.total, self.unit, self.name = total, unit, name
        self.done = 0
        self.is_finished = False
        self._say, self._every, self._is_silent = say, every, starts_silent
        self._started = self._said = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self._started

    def advance(self, done: int) -> None:
        """So many more units are done."""
        self.done += done
        if time.monotonic() - self._said >= self._every:
            self._said, self._is_silent = time.monotonic(), False
            self._say(self)

    def finish(self) -> None:
        """All are done."""
        self.is_finished = True
        if not self._is_silent:
            self._say(self)

    def __str__(self) -> str:
        """`texts: 1,200 of 5,000 (24 %), 40 texts/s, 1:35 left`."""
        rate = self.done / self.seconds if self.seconds > 0 else 0.0
        amounts = _amount(self.done, self.unit)
        if self.total:
            amounts += f" of {_amount(self.total, self.unit)} ({100 * self.done // self.total} %)"
        unit = "" if self.unit == BYTES else f" {_plural(self.unit)}"
        line = f"{self.name}: {amounts}, {_amount(rate, self.unit)}{unit}/s"
        if self.is_finished:
            return f"{line}, {_clock(self.seconds)} in all"
        return line + (f", {_clock((self.total - self.done) / rate)} left" if self.total and rate else "")


class NotebookBar:
    """A meter as a notebook shows it: HTML, and text where that is all there is."""

    def __init__(self, meter: Meter) -> None:
        self._text = str(meter)
        self._share = f'value="{meter.done}" max="{meter.total}"' if meter.total else ""
        if meter.is_finished and not meter.total:
            self._share = 'value="1" max="1"'

    def _repr_html_(self) -> str:
        return f'<div><progress {self._share} style="width: 20em"></progress> {html.escape(self._text)}</div>'

    def __repr__(self) -> str:
        return self._text


def _print_line(meter: Meter) -> None:
    print(f"longspan: {meter}", file=sys.stderr, flush=True)


def _notebook_bar(at_once: bool) -> Callable[[Meter], None]:
    """Shows a bar under the cell, and from then on draws over it."""
    handles: list[_Display] = []

    def draw(meter: Meter) -> None:
        if handles:
            handles[0].update(NotebookBar(meter))
        elif at_once or meter.seconds >= SHOW_AFTER_SECONDS:
            from IPython.display import display

            handles.append(display(NotebookBar(meter), display_id=True))

    return draw


def _is_notebook() -> bool:
    """Whether what is displayed goes to a notebook's cell."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _plural(unit: str) -> str:
    return "bytes" if unit == BYTES else f"{unit}s"


def _amount(value: float, unit: str) -> str:
    """A count with thousands, or a size."""
    if unit != BYTES:
        return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
    for prefix in ("", "k", "M"):
        if value < 1000:
            return f"{value:.3g} {prefix}B"
        value /= 1000
    return f"{value:.4g} GB"


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03, 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
