"""Results that were computed before, the least recently used ones dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

ENTRY_BYTES = 400  # what an entry takes beside its array


class ResultCache:
    """Arrays by key, `max_bytes` of them at most. Not for threads at once: the scheduler holds its lock."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.bytes = self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Any | None:
        """What `put` was given, or None."""
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return found[0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep an array, or a number; one that is larger than all of the cache is not kept."""
        size = ENTRY_BYTES + int(getattr(value, "nbytes", 8))
        if size > self._max_bytes:
            return
        if key in self._entries:
            self.bytes -= self._entries.pop(key)[1]
        self._entries[key] = (value, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.bytes -= dropped

    def clear(self) -> None:
        """Drop all."""
        self._entries.clear()
        self.bytes = 0
