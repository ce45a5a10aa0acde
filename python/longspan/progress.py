"""A progress bar on a terminal, silence in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

SHOW_AFTER_SECONDS: Final = 1.0


@contextmanager
def progress_bar(total: int | None, unit: str, show: bool | None) -> Iterator[Callable[[int], object]]:
    """A function to call with the number of units just done.

    Args:
        total: units in all; None where that is not known.
        unit: what is counted, in the singular.
        show: True or False decide; None shows a bar where stderr is a terminal, once the work has taken a second.
    """
    if show is False or (show is None and not sys.stderr.isatty()):
        yield lambda _done: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, unit_scale=True, delay=0.0 if show else SHOW_AFTER_SECONDS) as bar:
        yield bar.update
