"""Two queues by the size of a request, and what the next batch is to hold. Not for threads: the scheduler has a lock.

Small requests go first, so that a search does not wait for a bulk job; the oldest bulk item is passed over at most once
in a row, so that a bulk job goes on under any number of searches. A batch of small ones is not filled up with bulk, for
which they would wait: a search takes what is left of the batch that runs, and its own few tokens. A batch of bulk is
filled up with small ones, which then wait no longer than they must.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Final

from longspan.serve.jobs import Item, LaneName, Runner


class Lane:
    """Items in the order of their arrival, found by what computes them."""

    def __init__(self) -> None:
        self._queues: dict[Runner, deque[Item]] = {}

    def push(self, item: Item) -> None:
        """Behind all others."""
        self._queues.setdefault(item.runner, deque()).append(item)

    def head(self) -> Item | None:
        """The oldest that somebody waits for."""
        oldest: Item | None = None
        for runner in list(self._queues):
            queue = self._queues[runner]
            while queue and not queue[0].waiters:  # its clients have gone
                queue.popleft()
            if not queue:
                del self._queues[runner]
            elif oldest is None or queue[0].number < oldest.number:
                oldest = queue[0]
        return oldest

    def take(self, runner: Runner, budget: int, *, at_least_one: bool) -> Iterator[Item]:
        """Take the oldest of one runner, while they fit into `budget` tokens together; the first may be larger."""
        queue = self._queues.get(runner, deque())
        while queue:
            item = queue[0]
            if item.waiters:
                if item.tokens > budget and not at_least_one:
                    return
                budget -= item.tokens
                at_least_one = False
                yield queue.popleft()
            else:
                queue.popleft()


class Lanes:
    """Both lanes, and whose turn it is."""

    def __init__(self) -> None:
        self._lanes: Final[dict[LaneName, Lane]] = {"interactive": Lane(), "bulk": Lane()}
        self._numbers = count()
        self._passed_over = False  # the oldest bulk item, by the batch before

    def push(self, item: Item) -> None:
        """Queue an item, behind those of its lane."""
        item.number = next(self._numbers)
        self._lanes[item.lane].push(item)

    def next_batch(self, budget: int) -> list[Item]:
        """Items of one runner, of `budget` tokens together at most, unless one alone has more; empty if none waits."""
        interactive, bulk = self._lanes["interactive"], self._lanes["bulk"]
        first, waiting = interactive.head(), bulk.head()
        if first is None and waiting is None:
            return []
        if waiting is not None and (first is None or self._passed_over):
            batch = list(bulk.take(waiting.runner, budget, at_least_one=True))
            left = budget - sum(item.tokens for item in batch)
            batch += interactive.take(waiting.runner, left, at_least_one=False)
        else:
            assert first is not None
            batch = list(interactive.take(first.runner, budget, at_least_one=True))
        self._passed_over = waiting is not None and waiting not in batch
        return batch
