"""What extraction asks of a database, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from longspan.relations.schema import ForeignKey, Schema, Table


@dataclass(frozen=True, slots=True)
class TableRows:
    """The text of one table.

    Args:
        texts: for each column that was asked for, its distinct texts in code-point order; none is blank.
        numbers: (columns, rows) int32, which of the texts each row has, -1 for none.
    """

    texts: list[list[str]]
    numbers: np.ndarray


@dataclass(frozen=True, slots=True)
class RowPairs:
    """Rows that belong together: `left[i]` of one table and `right[i]` of another, int64, as `TableRows` counts."""

    left: np.ndarray
    right: np.ndarray


class Reader(Protocol):
    """One look at a database: all that it gives belongs to the same moment. Every method raises DatabaseError."""

    def schema(self) -> Schema:
        """Tables, text columns and keys."""

    def read(self, table: Table, columns: Sequence[str]) -> TableRows:
        """The texts of these columns. Must come before `joined` and `linked` name the table."""

    def joined(self, child: Table, key: ForeignKey, parent: Table) -> Iterator[RowPairs]:
        """Rows of `child` and the rows of `parent` that they refer to, in blocks as they come."""

    def linked(
        self, link: Table, first: ForeignKey, left: Table, second: ForeignKey, right: Table
    ) -> Iterator[RowPairs]:
        """Rows of `left` and `right` that some row of `link` refers to by its two keys, in blocks as they come."""


class Source(Protocol):
    """A database that can be opened."""

    @property
    def url(self) -> str:
        """Where it is, without a password."""

    def open(self) -> AbstractContextManager[Reader]:
        """A read-only transaction that sees one moment. DatabaseError where it cannot be had."""
