"""Files that are ours to write: whole or not there; and in folders of ours, so that no link leads a write out."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def is_own(path: Path) -> bool:
    """Whether it is a plain file that has no other name: what is written to it is seen nowhere else."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1


def open_new(path: Path) -> IO[bytes]:
    """A new file to write to. What lay there goes: of a link the link, and its target stays as it is."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    return open(path, "xb")


def open_own(path: Path) -> IO[bytes]:
    """The file to read and write, made if it is not there; one that a link stands for, or that has other names, becomes
    a copy first.

    Raises: FileNotFoundError, a link leads nowhere; OSError, as from the disk.
    """
    if os.path.lexists(path) and not is_own(path):
        aside = path.with_name(f"{path.name}.own")
        with open(path, "rb") as source, open_new(aside) as copy:
            shutil.copyfileobj(source, copy)
        os.replace(aside, path)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    return open(handle, "r+b")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder safe on the disk, where the system can."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A path to write to, which takes the target's place when the block ends without an error, else goes. A link stays,
    and what it stands for is replaced.

    Raises: FileNotFoundError, the target's folder is not there.
    """
    place = Path(os.path.realpath(target))
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{target}: the folder {place.parent} does not exist")
    aside = place.parent / f".{place.name}.partial-{secrets.token_hex(4)}"
    try:
        yield aside
        with open(aside, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(aside, place)
        sync_folder(place.parent)
    finally:
        aside.unlink(missing_ok=True)
