"""rescore in plain NumPy, in the dtype of `q`."""

from __future__ import annotations

import numpy as np


def rescore(
    q: np.ndarray,
    candidates: np.ndarray,
    documents: np.ndarray,
    *,
    scales: np.ndarray | None = None,
    k: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Dot products of each query with its candidates, the k best by (score falling, row rising)."""
    if documents.dtype == np.uint8:
        documents = np.unpackbits(documents, axis=1, count=q.shape[1]).astype(q.dtype) * 2 - 1
    elif scales is not None:
        documents = documents.astype(q.dtype) * scales[:, None].astype(q.dtype)
    k = candidates.shape[1] if k is None else k
    scores = np.zeros((len(q), k), q.dtype)
    rows = np.zeros((len(q), k), np.int64)
    for i, (query, wanted) in enumerate(zip(q, candidates)):
        found = documents[wanted] @ query
        best = np.lexsort((wanted, -found))[:k]
        scores[i], rows[i] = found[best], wanted[best]
    return scores, rows
