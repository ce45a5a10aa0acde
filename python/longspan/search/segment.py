"""Rows of an index in memory or in a mapped file: codes, ids, and what they are rescored with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeGuard, get_args

import numpy as np

Store = Literal["codes", "int8", "float32"]
STORES: Final[tuple[Store, ...]] = get_args(Store)
_FIRST_CAPACITY: Final = 1024  # rows


def is_store(name: str) -> TypeGuard[Store]:
    """Whether it is one of STORES."""
    return name in STORES


class Checks(Protocol):
    """Knows whether bytes read from a file are those that were written; raises IndexFileError where they are not."""

    def verify(self, column: str, rows: np.ndarray | None = None) -> None:
        """Check these rows of a column of `Rows`, or all of it. What was checked once is not checked again."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of n rows."""

    codes: np.ndarray  # (n, bytes) uint8
    ids: np.ndarray  # (n,) int64
    vectors: np.ndarray | None  # (n, dim) int8 | f32, or None where only codes are stored
    scales: np.ndarray | None  # (n,) f32 with int8 vectors

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def empty(cls, n: int, dim: int, store: Store) -> Rows:
        """Room for n rows; what it holds is undefined."""
        vectors = None if store == "codes" else np.empty((n, dim), store)
        scales = np.empty(n, np.float32) if store == "int8" else None
        return cls(np.empty((n, (dim + 7) // 8), np.uint8), np.empty(n, np.int64), vectors, scales)

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> Rows:
        """From what `columns` gives."""
        return cls(columns["codes"], columns["ids"], columns.get("vectors"), columns.get("scales"))

    def columns(self) -> dict[str, np.ndarray]:
        """Those that are stored, by name."""
        named = {"codes": self.codes, "ids": self.ids, "vectors": self.vectors, "scales": self.scales}
        return {name: column for name, column in named.items() if column is not None}

    def take(self, rows: np.ndarray | slice) -> Rows:
        """Some of the rows: views for a slice, copies for an array."""
        taken = {name: column[rows] for name, column in self.columns().items()}
        return Rows.of(taken)

    def write(self, first: int, rows: Rows) -> None:
        """Put `rows` at [first, first + len(rows))."""
        for name, column in rows.columns().items():
            self.columns()[name][first : first + len(rows)] = column


def concatenate(parts: Sequence[Rows]) -> Rows:
    """One after the other, at least one."""
    columns = [part.columns() for part in parts]
    return Rows.of({name: np.concatenate([part[name] for part in columns]) for name in columns[0]})


class Segment:
    """Some rows, of which some may be deleted. Never altered: a change makes a new one, so readers need no lock."""

    __slots__ = ("_id_order", "_id_ranks", "checks", "deleted", "is_ascending", "num_deleted", "rows")

    def __init__(
        self,
        rows: Rows,
        deleted: np.ndarray | None = None,
        *,
        num_deleted: int = 0,
        is_ascending: bool,
        checks: Checks | None = None,
    ) -> None:
        """`deleted`: (ceil(n / 8),) uint8 bits, most significant first; `is_ascending`: ids only rise."""
        self.rows = rows
        self.deleted = deleted
        self.num_deleted = num_deleted
        self.is_ascending = is_ascending
        self.checks = checks
        self._id_order: np.ndarray | None = None
        self._id_ranks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def verify(self, column: str, rows: np.ndarray | None = None) -> None:
        """As `Checks.verify`; rows in memory need none."""
        if self.checks is not None:
            self.checks.verify(column, rows)

    def id_order(self) -> np.ndarray:
        """(n,) int64 rows in the order of their ids; made when first asked for."""
        if self._id_order is None:
            self.verify("ids")
            self._id_order = np.argsort(self.rows.ids, kind="stable")
        return self._id_order

    def id_ranks(self) -> np.ndarray:
        """(n,) int64 place of each row in `id_order`; made when first asked for."""
        if self._id_ranks is None:
            ranks = np.empty(len(self), np.int64)
            ranks[self.id_order()] = np.arange(len(self))
            self._id_ranks = ranks
        return self._id_ranks

    def with_deleted(self, rows: np.ndarray) -> Segment:
        """The same rows, these deleted as well: all different, none deleted yet."""
        bits = np.zeros((len(self) + 7) // 8, np.uint8) if self.deleted is None else self.deleted.copy()
        np.bitwise_or.at(bits, rows >> 3, (0x80 >> (rows & 7)).astype(np.uint8))
        count = self.num_deleted + len(rows)
        changed = Segment(self.rows, bits, num_deleted=count, is_ascending=self.is_ascending, checks=self.checks)
        changed._id_order, changed._id_ranks = self._id_order, self._id_ranks
        return changed

    def is_deleted(self, rows: np.ndarray) -> np.ndarray:
        """Bool, for each of `rows`."""
        if self.deleted is None:
            return np.zeros(rows.shape, np.bool_)
        return (self.deleted[rows >> 3] & (0x80 >> (rows & 7)).astype(np.uint8)) != 0

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The row of each id, -1 where it is not here or deleted."""
        if len(self) == 0 or len(ids) == 0:
            return np.full(len(ids), -1, np.int64)
        self.verify("ids")
        order = None if self.is_ascending else self.id_order()
        # The last of equal ids: those before were deleted, or this one could not have been added.
        place = np.searchsorted(self.rows.ids, ids, side="right", sorter=order) - 1
        rows = np.maximum(place, 0) if order is None else order[np.maximum(place, 0)]
        is_here = (place >= 0) & (self.rows.ids[rows] == ids) & ~self.is_deleted(rows)
        return np.where(is_here, rows, -1)

    def live_rows(self) -> np.ndarray | slice:
        """What selects the rows that are not deleted."""
        if self.deleted is None:
            return slice(None)
        return np.flatnonzero(np.unpackbits(self.deleted, count=len(self)) == 0)

    def live(self) -> Rows:
        """The rows that are not deleted, checked."""
        for name in self.rows.columns():
            self.verify(name)
        return self.rows.take(self.live_rows())


class Tail:
    """The place where rows are added: buffers with room beyond what readers have been shown."""

    def __init__(self, dim: int, store: Store) -> None:
        self._dim = dim
        self._store: Store = store
        self._buffer: Rows | None = None
        self._used = 0

    def append(self, segments: tuple[Segment, ...], added: Rows) -> tuple[Segment, ...]:
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

    def _extend(self, buffer: Rows, added: Rows, previous: Segment | None) -> Segment:
        """The buffer's segment, `previous`, with more rows; None makes its first."""
        used = self._used + len(added)
        buffer.write(self._used, added)
        grown = _grown(buffer.take(slice(0, used)), previous, added.ids)
        self._used = used
        return grown

    def close(self) -> None:
        """What is added next starts a new segment."""
        self._buffer = None


def _grown(rows: Rows, previous: Segment | None, added_ids: np.ndarray) -> Segment:
    is_ascending = rises(added_ids)
    if previous is None:
        return Segment(rows, is_ascending=is_ascending)
    is_ascending = is_ascending and previous.is_ascending and bool(previous.rows.ids[-1] < added_ids[0])
    deleted = previous.deleted
    if deleted is not None:
        deleted = np.concatenate([deleted, np.zeros((len(rows) + 7) // 8 - len(deleted), np.uint8)])
    return Segment(rows, deleted, num_deleted=previous.num_deleted, is_ascending=is_ascending)


def rises(ids: np.ndarray) -> bool:
    """Whether each id is greater than the one before."""
    return bool((ids[1:] > ids[:-1]).all())


def live_blocks(segments: Sequence[Segment], rows_a_block: int = 65536) -> Iterator[Rows]:
    """All rows that are not deleted, in order, some at a time."""
    for segment in segments:
        for name in segment.rows.columns():
            segment.verify(name)
        rows = segment.live_rows()
        places = np.arange(len(segment)) if isinstance(rows, slice) else rows
        for first in range(0, len(places), rows_a_block):
            yield segment.rows.take(places[first : first + rows_a_block])
