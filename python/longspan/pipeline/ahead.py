"""Work a step ahead of who asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; while the caller works on one, a thread prepares the next. What an item raises, its turn raises.

    It pays where preparing leaves the interpreter free, as the tokenizer does.
    """
    source = iter(items)
    end = object()
    with ThreadPoolExecutor(1, "longspan-ahead") as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]
