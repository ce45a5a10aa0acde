"""Rows of a binary index in memory or in a mapped file: codes, ids, and what they are rescored with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeGuard, get_args

import numpy as np

from longspan.search.segment import Segment

Store = Literal["codes", "int8", "float32"]
STORES: Final[tuple[Store, ...]] = get_args(Store)


def is_store(name: str) -> TypeGuard[Store]:
    """Whether it is one of STORES."""
    return name in STORES


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


CodeSegment = Segment[Rows]
