"""Sparse vectors: of each row the entries that are not zero, as compressed sparse rows (CSR)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from longspan.arguments import names_arguments
from longspan.integers import checked_int


@runtime_checkable
class CsrLike(Protocol):
    """What `SparseVectors.of` takes beside our own: scipy's csr_array and csr_matrix."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    shape: tuple[int, int]


@names_arguments
@dataclass(frozen=True, slots=True, eq=False)
class SparseVectors:
    """n sparse vectors. Row r has the values[offsets[r] : offsets[r + 1]] at the dimensions of `indices` there.

    Attributes:
        offsets: (n + 1,) int64, from 0, never falling.
        indices: (entries,) int32, rising within a row: for a model's vectors token ids.
        values: (entries,) f32.
        dim: dimensions: for a model's vectors the rows of its vocabulary.
    """

    offsets: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    dim: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: int | slice) -> SparseVectors:
        """One row, or a run of them, as sparse vectors again."""
        if isinstance(rows, slice):
            first, end, step = rows.indices(len(self))
            if step != 1:
                raise ValueError(f"SparseVectors: a slice must have the step 1, got {step}")
            end = max(first, end)
        else:
            first = checked_int("SparseVectors: row", rows)
            if not -len(self) <= first < len(self):
                raise IndexError(f"SparseVectors: row must be from {-len(self)} to {len(self) - 1}, got {first}")
            first %= len(self)
            end = first + 1
        part = slice(self.offsets[first], self.offsets[end])
        offsets = self.offsets[first : end + 1] - self.offsets[first]
        return SparseVectors(offsets, self.indices[part], self.values[part], self.dim)

    def __iter__(self) -> Iterator[SparseVectors]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        rows = f"{len(self):,} row{'' if len(self) == 1 else 's'}"
        return f"SparseVectors({rows}, dim={self.dim}, {len(self.values):,} entries)"

    @classmethod
    def of(cls, given: object, dim: int | None = None) -> SparseVectors:
        """From what others have: scipy's CSR, or for each row a dict from dimension to value (`dim` says how many).

        Dimensions may be spelt out, as in bge-m3's {"1234": 0.5}. Zeros are left out, dimensions sorted. Raises:
        TypeError or ValueError, it is something else, a dimension lies outside or stands twice in a row, or a value is
        no finite number.
        """
        if isinstance(given, SparseVectors):
            vectors = _verified(given)
        elif isinstance(given, CsrLike):
            if getattr(given, "format", "csr") != "csr":  # CSC and BSR have the same parts with other meanings
                raise TypeError(f"SparseVectors.of: takes scipy's CSR, got {type(given).__name__}; give its .tocsr()")
            vectors = _sorted(np.asarray(given.indptr), np.asarray(given.indices), np.asarray(given.data), given.shape)
        elif isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(r, Mapping) for r in given):
            if dim is None:
                raise ValueError("SparseVectors.of: dim must be given with dicts")
            counts = np.cumsum([0, *map(len, given)])
            indices = _dimensions([index for row in given for index in row], dim)
            values = _values([value for row in given for value in row.values()])
            vectors = _sorted(counts, indices, values, (len(given), dim))
        else:
            raise TypeError(
                "SparseVectors.of: takes SparseVectors, a scipy CSR array or a list of dicts, got "
                f"{type(given).__name__}"
            )
        if dim is not None and vectors.dim != dim:
            raise ValueError(f"SparseVectors.of: must have {dim} dimensions, got {vectors.dim}")
        return vectors

    @classmethod
    def from_dense(cls, rows: np.ndarray) -> SparseVectors:
        """What is not zero in (n, dim) f32; NaN counts."""
        kept = rows != 0
        offsets = np.concatenate([[0], np.cumsum(np.count_nonzero(kept, axis=1))]).astype(np.int64)
        return cls(offsets, np.nonzero(kept)[1].astype(np.int32), rows[kept].astype(np.float32), rows.shape[1])

    @classmethod
    def joined(cls, parts: Iterable[SparseVectors], dim: int) -> SparseVectors:
        """One after the other; none at all gives none."""
        parts = list(parts)
        lengths = [np.diff(part.offsets) for part in parts]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]))]).astype(np.int64)
        indices = np.concatenate([np.zeros(0, np.int32), *(part.indices for part in parts)])
        values = np.concatenate([np.zeros(0, np.float32), *(part.values for part in parts)])
        return cls(offsets, indices, values, dim)

    def take(self, rows: np.ndarray) -> SparseVectors:
        """These rows, in this order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return SparseVectors(offsets, self.indices[places], self.values[places], self.dim)

    def top(self, k: int) -> SparseVectors:
        """Of each row the k largest values, or all where there are fewer; of equal ones those of lower dimensions."""
        if checked_int("SparseVectors.top: k", k) < 1:
            raise ValueError(f"SparseVectors.top: k must be 1 or more, got {k}")
        k = min(k, self.dim)
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        order = np.lexsort((self.indices, -self.values, rows))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order)) - self.offsets[:-1][rows]
        kept = ranks < k
        offsets = np.concatenate([[0], np.cumsum(np.minimum(np.diff(self.offsets), k))]).astype(np.int64)
        return SparseVectors(offsets, self.indices[kept], self.values[kept], self.dim)

    def to_dense(self) -> np.ndarray:
        """(n, dim) f32."""
        dense = np.zeros((len(self), self.dim), np.float32)
        dense[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.indices] = self.values
        return dense

    def to_dicts(self) -> list[dict[int, float]]:
        """For each row dimension -> value, dimensions rising."""
        pairs = zip(self.indices.tolist(), self.values.tolist(), strict=True)
        return [dict(next(pairs) for _ in range(count)) for count in np.diff(self.offsets).tolist()]

    def to_scipy(self) -> CsrLike:
        """The same as scipy's CSR, sharing memory. Raises: ImportError, scipy is not installed."""
        from scipy.sparse import csr_array  # type: ignore[import-untyped]

        array: CsrLike = csr_array((self.values, self.indices, self.offsets), shape=(len(self), self.dim))
        return array

    def sparsity(self) -> float:
        """The share of values that are zero, from 0 to 1; 1 where there are no rows."""
        return 1 - len(self.values) / (len(self) * self.dim) if len(self) and self.dim else 1.0


SparseInput: TypeAlias = "SparseVectors | CsrLike | Sequence[Mapping[int, float]]"


def dot(a: SparseVectors, b: SparseVectors) -> np.ndarray:
    """(len(a), len(b)) f32: dot products, each summed in float64 over rising dimensions and rounded once.

    Raises: ValueError, they differ in dimensions.
    """
    if a.dim != b.dim:
        raise ValueError(f"similarity: both must have the same dimensions, got {a.dim} and {b.dim}")
    scores = np.zeros((len(a), len(b)), np.float32)
    spread, rows = np.zeros(a.dim), np.repeat(np.arange(len(b)), np.diff(b.offsets))
    for place in range(len(a)):
        part = slice(a.offsets[place], a.offsets[place + 1])
        spread[a.indices[part]] = a.values[part]
        scores[place] = np.bincount(rows, spread[b.indices] * b.values, len(b))
        spread[a.indices[part]] = 0
    return scores


def _verified(given: SparseVectors) -> SparseVectors:
    """The same, whose parts the caller may have made: ValueError if they are not as the class says."""
    offsets, indices, values = (np.asarray(part) for part in (given.offsets, given.indices, given.values))
    if any(part.ndim != 1 for part in (offsets, indices, values)) or not (offsets.dtype.kind in "iu" and len(offsets)):
        raise ValueError("SparseVectors: offsets, indices and values must be one-dimensional, offsets integers")
    if len(indices) != len(values) or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
        raise ValueError("SparseVectors: offsets, indices and values contradict each other")
    if len(indices) == 0:
        return SparseVectors(offsets, indices.astype(np.int32), values.astype(np.float32), given.dim)
    if indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() >= given.dim:
        raise ValueError(f"SparseVectors: indices must be integers from 0 to {given.dim - 1}")
    falls = np.diff(indices.astype(np.int64)) <= 0
    starts = offsets[1:-1]
    falls[starts[(starts > 0) & (starts < len(indices))] - 1] = False  # from one row to the next
    if falls.any():
        row = int(np.searchsorted(offsets, np.argmax(falls) + 1, side="right")) - 1
        raise ValueError(f"SparseVectors: indices must rise within a row, and do not in row {row}")
    return given if type(given.values) is np.ndarray else SparseVectors(offsets, indices, values, given.dim)


def _dimensions(keys: list[object], dim: int) -> np.ndarray:
    """(n,) int64 of a dict's keys; those out of bounds are `_sorted`'s to tell."""
    whole = np.array(keys)
    if whole.dtype.kind in "iu" and bool not in set(map(type, keys)):
        return whole.astype(np.int64)
    return np.array([_dimension(key, dim) for key in keys], np.int64)


def _dimension(key: object, dim: int) -> int:
    if isinstance(key, str):
        if not (key.isascii() and key.isdigit() and len(key) < 20):
            raise ValueError(f"SparseVectors.of: the keys of a dict must be dimensions (token ids), got {key!r}")
        key = int(key)
    number = checked_int("SparseVectors.of: a key of a dict", key)
    if not 0 <= number < dim:
        raise ValueError(f"SparseVectors.of: dimensions must be from 0 to {dim - 1}, got {number}")
    return number


def _values(given: list[object]) -> np.ndarray:
    """(n,) of values that are numbers."""
    for kind in set(map(type, given)):
        if not issubclass(kind, Real) or issubclass(kind, bool):
            raise TypeError(f"SparseVectors.of: values must be finite numbers, got {kind.__name__}")
    try:
        return np.array(given, np.float64)
    except OverflowError:
        raise ValueError("SparseVectors.of: values must be finite numbers, in float32") from None


def _sorted(offsets: np.ndarray, indices: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> SparseVectors:
    """Checked; dimensions rising in each row, without zeros."""
    count, dim = shape
    if len(offsets) != count + 1 or len(indices) != len(values) or offsets[0] != 0 or offsets[-1] != len(values):
        raise ValueError("SparseVectors.of: offsets, indices and values contradict each other")
    lengths = np.diff(offsets)
    if (lengths < 0).any():
        raise ValueError("SparseVectors.of: offsets must never fall")
    if len(indices) and not (indices.min() >= 0 and indices.max() < dim):
        raise ValueError(
            f"SparseVectors.of: dimensions must be from 0 to {dim - 1}, got {indices.min()} to {indices.max()}"
        )
    with np.errstate(over="ignore"):  # infinity is told
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("SparseVectors.of: values must be finite numbers, in float32")
    rows = np.repeat(np.arange(count), lengths)
    order = np.lexsort((indices, rows))
    order = order[values[order] != 0]
    rows, indices, values = rows[order], indices[order].astype(np.int32), values[order]
    twice = np.flatnonzero((rows[1:] == rows[:-1]) & (indices[1:] == indices[:-1]))
    if len(twice):
        raise ValueError(f"SparseVectors.of: row {rows[twice[0]]} has dimension {indices[twice[0]]} twice")
    new_offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)
    return SparseVectors(new_offsets, indices, values, dim)
