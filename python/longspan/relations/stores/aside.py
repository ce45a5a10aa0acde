"""Files that are whole or not there: written beside their place, made safe on the disk, renamed."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A path to write to, which takes the target's place when the block ends without an error, else goes."""
    place = Path(os.path.realpath(target))
    aside = place.parent / f".{place.name}.partial-{secrets.token_hex(4)}"
    try:
        yield aside
        with open(aside, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(aside, place)
        _sync_folder(place.parent)
    finally:
        aside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
