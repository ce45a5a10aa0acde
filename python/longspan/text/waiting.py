"""Whether anybody still waits for what a thread prepares ahead: long work looks at it now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class LeftError(Exception):
    """Nobody waits any more for what is being prepared."""


class _Thread(threading.local):
    left: threading.Event | None = None


_THREAD = _Thread()


@contextmanager
def prepared_until(left: threading.Event) -> Iterator[None]:
    """What this thread does here is for somebody who sets `left` on leaving."""
    _THREAD.left = left
    try:
        yield
    finally:
        _THREAD.left = None


def check_waiting() -> None:
    """LeftError if this thread prepares something that nobody waits for."""
    if _THREAD.left is not None and _THREAD.left.is_set():
        raise LeftError
