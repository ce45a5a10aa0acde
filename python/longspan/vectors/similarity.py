"""Similarity of every vector of one set to every vector of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from longspan import ops
from longspan.vectors.arrays import FloatArray
from longspan.vectors.unit_length import unit_length


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(ops.linear(a, b))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _dot(unit_length(a), unit_length(b))


def _euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None, :] - 2 * _dot(a, b)
    return -np.sqrt(np.maximum(squares, 0))


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
    """(len(a), len(b)) f32; each of `a`, `b` is (n, dim) or one vector (dim,), of any numeric dtype."""
    left, right = (np.atleast_2d(np.asarray(side, np.float32)) for side in (a, b))
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"similarity: a and b must be (n, dim) with one dim, got {left.shape} and {right.shape}")
    return SIMILARITIES[name](left, right)
