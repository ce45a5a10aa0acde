"""retrofit_step and group_sums in plain NumPy, in the dtype of `vectors`."""

from __future__ import annotations

import numpy as np


def retrofit_step(
    vectors: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    *,
    base: np.ndarray | None = None,
    anchor: np.ndarray | None = None,
    sums: np.ndarray | None = None,
    sum_indptr: np.ndarray | None = None,
    sum_indices: np.ndarray | None = None,
    sum_weights: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    divisor: np.ndarray | None = None,
    squares: np.ndarray | None = None,
) -> np.ndarray:
    """(rows, dim): (anchor base + sparse product with scaled vectors + sparse product with sums) / divisor, by rows;
    `squares` (rows,) has the sum of each row's squares added to it."""
    rows = vectors if scale is None else vectors * scale[:, None].astype(vectors.dtype)
    out = _product(rows, indptr, indices, weights)
    if base is not None and anchor is not None:
        used = np.flatnonzero(anchor)
        out[used] += anchor[used, None].astype(out.dtype) * base[used]
    if sums is not None and sum_indptr is not None and sum_indices is not None and sum_weights is not None:
        out += _product(sums, sum_indptr, sum_indices, sum_weights)
    if divisor is not None:
        out /= divisor[:, None].astype(out.dtype)
    if squares is not None:
        squares += np.square(out).sum(axis=1)
    return out


def group_sums(
    vectors: np.ndarray, indptr: np.ndarray, indices: np.ndarray, *, scale: np.ndarray | None = None
) -> np.ndarray:
    """(groups, dim): for each group the sum of its members' rows, each times its own scale."""
    rows = vectors if scale is None else vectors * scale[:, None].astype(vectors.dtype)
    return _product(rows, indptr, indices, np.ones(len(indices), vectors.dtype))


def _product(rows: np.ndarray, indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = np.zeros((len(indptr) - 1, rows.shape[1]), rows.dtype)
    for row, (start, end) in enumerate(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)):
        out[row] = weights[start:end].astype(rows.dtype) @ rows[indices[start:end]]
    return out
