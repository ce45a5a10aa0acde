"""Where rows are added to a binary index in memory, and how they are read from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from longspan.search.rows import CodeSegment, Rows, Store
from longspan.search.segment import Segment, rises

_FIRST_CAPACITY: Final = 1024  # rows


class Tail:
    """The place where rows are added: buffers with room beyond what readers have been shown."""

    def __init__(self, dim: int, store: Store) -> None:
        self._dim = dim
        self._store: Store = store
        self._buffer: Rows | None = None
        self._used = 0

    def append(self, segments: tuple[CodeSegment, ...], added: Rows) -> tuple[CodeSegment, ...]:
        """`segments` and behind them `added`: in the last one while its buffer has room, then in a new one."""
        room = 0 if self._buffer is None else len(self._buffer) - self._used
        head, rest = added.take(slice(0, room)), added.take(slice(room, len(added)))
        fresh = None
        if len(rest):  # before anything is altered: this may find no memory
            # As many as there are already: few segments, and no row is ever moved.
            total = sum(map(len, segments))
            fresh = Rows.empty(max(_FIRST_CAPACITY, len(rest), total), self._dim, self._store)
        if len(head) and self._buffer is not None:
            segments = (*segments[:-1], self._extend(self._buffer, head, segments[-1]))
        if fresh is not None:
            self._buffer, self._used = fresh, 0
            segments = (*segments, self._extend(fresh, rest, None))
        return segments

    def _extend(self, buffer: Rows, added: Rows, previous: CodeSegment | None) -> CodeSegment:
        """The buffer's segment, `previous`, with more rows; None makes its first."""
        used = self._used + len(added)
        buffer.write(self._used, added)
        grown = _grown(buffer.take(slice(0, used)), previous, added.ids)
        self._used = used
        return grown

    def close(self) -> None:
        """What is added next starts a new segment."""
        self._buffer = None


def _grown(rows: Rows, previous: CodeSegment | None, added_ids: np.ndarray) -> CodeSegment:
    is_ascending = rises(added_ids)
    if previous is None:
        return Segment(rows, is_ascending=is_ascending)
    is_ascending = is_ascending and previous.is_ascending and bool(previous.rows.ids[-1] < added_ids[0])
    deleted = previous.deleted
    if deleted is not None:
        deleted = np.concatenate([deleted, np.zeros((len(rows) + 7) // 8 - len(deleted), np.uint8)])
    return Segment(rows, deleted, num_deleted=previous.num_deleted, is_ascending=is_ascending)


def live(segment: CodeSegment) -> Rows:
    """The rows that are not deleted, checked."""
    for name in segment.rows.columns():
        segment.verify(name)
    return segment.rows.take(segment.live_rows())


def live_blocks(segments: Sequence[CodeSegment], rows_a_block: int = 65536) -> Iterator[Rows]:
    """All rows that are not deleted, in order, some at a time."""
    for segment in segments:
        for name in segment.rows.columns():
            segment.verify(name)
        rows = segment.live_rows()
        places = np.arange(len(segment)) if isinstance(rows, slice) else rows
        for first in range(0, len(places), rows_a_block):
            yield segment.rows.take(places[first : first + rows_a_block])
