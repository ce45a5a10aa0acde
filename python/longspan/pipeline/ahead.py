"""Work a step ahead of who asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


class LeftError(Exception):
    """Nobody waits any more for what is being prepared."""


def ahead(items: Iterable[Item], left: threading.Event | None = None) -> Iterator[Item]:
    """The same items; while the caller works on one, a thread prepares the next. What an item raises, its turn raises.

    It pays where preparing leaves the interpreter free, as the tokenizer does.

    Args:
        left: set when the caller leaves, who then waits for the item that is being prepared: one that takes long looks
            at it now and then, and raises `LeftError`.
    """
    source = iter(items)
    end = object()
    with ThreadPoolExecutor(1, "longspan-ahead") as thread:
        try:
            coming = thread.submit(next, source, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, source, end)
                yield item  # type: ignore[misc]
        finally:
            if left is not None:
                left.set()
