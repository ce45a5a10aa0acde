"""hamming and hamming_topk in plain NumPy."""

from __future__ import annotations

import numpy as np


def hamming(q: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(nq, n) int32: how many bits differ."""
    differing = [np.unpackbits(codes ^ query, axis=-1).sum(axis=-1, dtype=np.int32) for query in q]
    return np.stack(differing) if differing else np.zeros((0, len(codes)), np.int32)


def hamming_topk(
    q: np.ndarray,
    codes: np.ndarray,
    k: int,
    *,
    filter: np.ndarray | None = None,
    tie_ranks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest by (distance, row), among the rows that `filter` (bool or packed bits) lets pass."""
    distances = hamming(q, codes)
    rows = np.arange(len(codes))
    if filter is not None:
        is_wanted = filter if filter.dtype == np.bool_ else np.unpackbits(filter, count=len(codes)).astype(bool)
        rows = np.flatnonzero(is_wanted)
    ties = rows if tie_ranks is None else tie_ranks[rows]
    order = np.stack([np.lexsort((ties, found)) for found in distances[:, rows]]) if len(q) else np.zeros((0, 0), int)
    best = order[:, : min(k, len(rows))] if len(q) else np.zeros((0, min(k, len(rows))), int)
    nearest = np.take_along_axis(distances[:, rows], best, axis=1)
    return nearest, (rows if tie_ranks is None else ties)[best].astype(np.int64)
