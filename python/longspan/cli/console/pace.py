"""How many texts to run at a time: enough to keep the kernels busy, few enough to show progress and be safe soon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_SECONDS = 2.0  # wanted for a block
_MOST = 4096  # texts
_MOST_CHARACTERS = 4_000_000

Item = TypeVar("Item")


class Pace:
    """The size of the next block, from how long the last ones took. What a text becomes does not depend on it.

    Args:
        fewest: texts of a block at least; the first has twice as many.
    """

    def __init__(self, fewest: int) -> None:
        self._fewest = fewest
        self.texts = 2 * fewest

    def took(self, texts: int, seconds: float) -> None:
        """Learn from a block; at most doubles or halves, as one block says little of the next one's lengths."""
        wanted = texts * _SECONDS / max(seconds, 1e-6)
        self.texts = int(min(max(wanted, self.texts / 2, self._fewest), self.texts * 2, _MOST))

    def blocks(self, items: Iterable[Item], weight: Callable[[Item], int]) -> Iterator[list[Item]]:
        """`items` in order, in blocks of the size that holds when each begins; `weight`: its characters."""
        block: list[Item] = []
        characters = 0
        for item in items:
            block.append(item)
            characters += weight(item)
            if len(block) >= self.texts or characters >= _MOST_CHARACTERS:
                yield block
                block, characters = [], 0
        if block:
            yield block
