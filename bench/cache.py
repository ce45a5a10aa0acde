"""Where the suite keeps what is slow to make again: compiled ceilings, models exported for other runtimes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

VARIABLE: Final = "LONGSPAN_BENCH_CACHE"
_making: list[float] = []  # seconds of each thing that this process made


def cache_folder() -> Path:
    """LONGSPAN_BENCH_CACHE, or longspan-bench where the system keeps caches; it exists afterwards."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get(VARIABLE) or Path(base) / "longspan-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(name: str, parts: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled for these parts, now or in an earlier process; made aside, so that it is whole.

    Args:
        name: what the folder's name begins with.
        parts: all that its content depends on.
        make: fills the folder that it is given; what it raises is raised here, and nothing is kept.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    place = cache_folder() / f"{name}-{digest}"
    if place.is_dir():
        return place
    aside = Path(tempfile.mkdtemp(dir=cache_folder()))
    started = time.perf_counter()
    try:
        make(aside)
        try:
            aside.rename(place)
        except OSError:  # another process was faster; or the name is taken by something that is no folder
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        _making.append(time.perf_counter() - started)
    return place


def seconds_making() -> float:
    """What this process spent on making things that the next will find."""
    return sum(_making)
