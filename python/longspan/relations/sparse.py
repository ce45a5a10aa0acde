"""Sparse rows as the kernels take them, from triples of row, column and weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Triples = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, columns, weights in float64


@dataclass(frozen=True, slots=True)
class SparseRows:
    """CSR: row i has the columns `indices[indptr[i] : indptr[i + 1]]`, ascending, with their `weights`.

    Args:
        indptr: (rows + 1,) int64.
        indices: (non-zeros,) int32.
        weights: (non-zeros,) float32.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray

    def only(self, rows: np.ndarray) -> SparseRows:
        """These rows, in this order."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(self.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return SparseRows(indptr, self.indices[places], self.weights[places])

    def renumbered(self, number: np.ndarray) -> SparseRows:
        """Columns by their new numbers; those without one, -1, leave their row."""
        columns = number[self.indices]
        kept = columns >= 0
        before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return SparseRows(before[self.indptr], columns[kept], self.weights[kept])


def sparse_rows(parts: Sequence[Triples], rows: int, columns: int) -> SparseRows:
    """Triples as CSR; the weights of equal places are added, in float64."""
    width = max(columns, 1)
    if not parts:
        return SparseRows(np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    keys = np.concatenate([part[0].astype(np.int64) * width + part[1] for part in parts])
    weights = np.concatenate([np.asarray(part[2], np.float64) for part in parts])
    order = np.argsort(keys, kind="stable")
    keys, weights = keys[order], weights[order]
    del order
    is_first = np.empty(len(keys), bool)
    is_first[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    if not is_first.all():
        places = np.flatnonzero(is_first)
        weights, keys = np.add.reduceat(weights, places), keys[places]
    row_of, column_of = np.divmod(keys, width)
    indptr = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row_of, minlength=rows), out=indptr[1:])
    return SparseRows(indptr, column_of.astype(np.int32), weights.astype(np.float32))
