"""A task that something else may end: a timer, or a client that hangs up."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType


class Interruption:
    """A block of a task that a callback ends: whatever it awaits is given up, and the block raises `error`.

        with Interruption(error) as interrupt:
            timer = loop.call_later(seconds, interrupt)
            ...

    `asyncio.wait_for` and `asyncio.wait` do the same with a task of its own for what is awaited, which costs every
    request some ten microseconds.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._task: asyncio.Task[object] | None = None
        self._came = False

    def __enter__(self) -> Interruption:
        self._task = asyncio.current_task()
        return self

    def __call__(self, *_: object) -> None:
        """End the block, if it has not ended."""
        if self._task is not None and not self._came:
            self._came = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task, self._task = self._task, None
        if not self._came or kind is None or not issubclass(kind, asyncio.CancelledError):
            return
        assert task is not None, "entered"
        if sys.version_info >= (3, 11) and task.uncancel() > 0:
            return  # the task itself is cancelled as well
        raise self._error from None
