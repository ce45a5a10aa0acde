"""Work a step ahead of who asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from longspan.text.waiting import prepared_until

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; while the caller works on one, a thread prepares the next. What an item raises, its turn raises.

    It pays where preparing leaves the interpreter free, as the tokenizer does. A caller who leaves, as Ctrl-C makes it,
    waits for the item that is being prepared no longer than to its next `check_waiting`.
    """
    source, left = iter(items), threading.Event()

    def prepare() -> tuple[Item] | None:
        with prepared_until(left):
            for item in source:
                return (item,)
            return None

    with ThreadPoolExecutor(1, "longspan-ahead") as thread:
        try:
            coming = thread.submit(prepare)
            while (prepared := coming.result()) is not None:
                coming = thread.submit(prepare)
                yield prepared[0]
        finally:
            left.set()
