"""Rows of an index, of which some may be deleted: what readers hold, and never altered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

import numpy as np


class Checks(Protocol):
    """Knows whether bytes read from a file are those that were written; raises IndexFileError where they are not."""

    def verify(self, column: str, rows: np.ndarray | None = None) -> None:
        """Check these rows of a column, or all of it. What was checked once is not checked again."""

    def verify_spans(self, column: str, starts: np.ndarray, ends: np.ndarray) -> None:
        """The same for the rows [start, end) of each span; no span is empty."""


class Columns(Protocol):
    """Columns of n rows. One of them is the rows' ids; others may hold several items a row."""

    @property
    def ids(self) -> np.ndarray:
        """(n,) int64."""

    def columns(self) -> dict[str, np.ndarray]:
        """Those that are stored, by name."""


C = TypeVar("C", bound=Columns)
C_co = TypeVar("C_co", bound=Columns, covariant=True)


class Segment(Generic[C_co]):
    """Some rows, of which some may be deleted. Never altered: a change makes a new one, so readers need no lock."""

    __slots__ = ("_id_order", "_id_ranks", "checks", "deleted", "is_ascending", "num_deleted", "rows")

    def __init__(
        self,
        rows: C_co,
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
        return len(self.rows.ids)

    def verify(self, column: str, rows: np.ndarray | None = None) -> None:
        """As `Checks.verify`; rows in memory need none."""
        if self.checks is not None:
            self.checks.verify(column, rows)

    def verify_spans(self, column: str, starts: np.ndarray, ends: np.ndarray) -> None:
        """As `Checks.verify_spans`."""
        if self.checks is not None:
            self.checks.verify_spans(column, starts, ends)

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

    def with_deleted(self, rows: np.ndarray) -> Segment[C_co]:
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


def rises(ids: np.ndarray) -> bool:
    """Whether each id is greater than the one before."""
    return bool((ids[1:] > ids[:-1]).all())


def is_ascending(segments: Sequence[Segment[Columns]]) -> bool:
    """Whether ids only rise over all of them."""
    filled = [segment for segment in segments if len(segment)]
    return all(segment.is_ascending for segment in filled) and all(
        bool(a.rows.ids[-1] < b.rows.ids[0]) for a, b in pairwise(filled)
    )


def deleted_bits(segments: Sequence[Segment[Columns]]) -> np.ndarray:
    """(ceil(n / 8),) uint8 over all segments' rows, at least one segment."""
    parts = [
        np.zeros(len(segment), np.uint8)
        if segment.deleted is None
        else np.unpackbits(segment.deleted, count=len(segment))
        for segment in segments
    ]
    return np.packbits(np.concatenate(parts))
