"""Similarity of every vector of one set to every vector of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from longspan import ops
from longspan.vectors.arrays import FloatArray
from longspan.vectors.unit_length import unit_length

_ROWS_AT_ONCE: Final = 4096  # of float64 copies
_LARGE: Final = 1e16  # sums of many such squares are more than float32 holds
_SMALL: Final = 1e-10  # about what `unit_length` takes for zeros


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(ops.linear(a, b))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _dot(_directions(a), _directions(b))


def _directions(rows: np.ndarray) -> np.ndarray:
    """`rows` at unit length, also those whose squares float32 cannot hold."""
    peaks = np.abs(rows).max(axis=1, initial=0)
    is_extreme = np.isfinite(peaks) & ((peaks > _LARGE) | ((peaks > 0) & (peaks < _SMALL)))
    if is_extreme.any():
        rows = rows.copy()
        rows[is_extreme] /= peaks[is_extreme, None]
    return unit_length(rows)


def _euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By |a|^2 + |b|^2 - 2 <a, b>, in which near vectors lose all their digits in float32, so in float64."""
    left, found = a.astype(np.float64), np.empty((len(a), len(b)), np.float32)
    squares = np.square(left).sum(1)[:, None]
    for start in range(0, len(b), _ROWS_AT_ONCE):
        right = b[start : start + _ROWS_AT_ONCE].astype(np.float64)
        apart = squares + np.square(right).sum(1) - 2 * (left @ right.T)
        found[:, start : start + _ROWS_AT_ONCE] = -np.sqrt(np.maximum(apart, 0))
    return found


def _manhattan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([-np.abs(row - b).sum(1) for row in a]) if len(a) else np.zeros((0, len(b)), np.float32)


# The names that config_sentence_transformers.json uses. Distances are negated: higher is always more alike.
SIMILARITIES: Final[dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}


def similarity(a: object, b: object, name: str = "cosine") -> FloatArray:
    """(len(a), len(b)) f32; each of `a`, `b` is (n, dim) or one vector (dim,), of any numeric dtype.

    Raises: TypeError, one is not numbers; ValueError, their shapes do not go together, or float32 cannot hold one.
    """
    left, right = _rows("a", a), _rows("b", b)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1] or not left.shape[1]:
        raise ValueError(f"similarity: a and b must be (n, dim) with one dim, got {left.shape} and {right.shape}")
    if not (len(left) and len(right)):
        return np.zeros((len(left), len(right)), np.float32)
    return SIMILARITIES[name](left, right)


def _rows(name: str, side: object) -> np.ndarray:
    """(n, dim) f32."""
    if hasattr(side, "detach"):  # a tensor: on a GPU, in bfloat16, with a gradient, all of which NumPy does not take
        side = side.detach().cpu().float().numpy()
    try:
        given = np.asarray(side)
    except ValueError:
        raise ValueError(f"similarity: {name} must be (n, dim), got rows of several lengths") from None
    if given.dtype.kind not in "fiu":
        got = type(side).__name__ if given.dtype == np.object_ else given.dtype
        raise TypeError(f"similarity: {name} must be (n, dim) numbers, got {got}")
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.atleast_2d(given.astype(np.float32, copy=False))
    if given.dtype.kind == "f" and given.dtype.itemsize > 4 and (np.isinf(rows) & np.isfinite(given)).any():
        raise ValueError(f"similarity: {name} has a number beyond float32; scale it down")
    return rows
