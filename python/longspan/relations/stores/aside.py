"""Files that are whole or not there: written beside their place, made safe on the disk, renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longspan.own_files import sync_folder


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
        sync_folder(place.parent)
    finally:
        aside.unlink(missing_ok=True)
