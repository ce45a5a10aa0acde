"""One process at a time: a lock beside what is made, taken before anything there is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(target: Path, name: str) -> Iterator[None]:
    """Hold `.NAME.lock` beside `target`, which need not be there, until the block ends; then the file goes.

    Raises: ValueError, another process holds it; OSError, the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: there, two processes must not work on one target at a time
        yield
        return
    path = target.with_name(f".{target.name}.lock")
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise ValueError(f"{name} is being written by another process; wait for it to end") from error
        if _is_still(path, handle):
            break
        os.close(handle)  # of a run that has ended meanwhile, and has taken its file away
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
