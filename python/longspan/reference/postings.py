"""Exact search over sparse vectors in plain NumPy: every document scored, in float32, in the order of its terms."""

from __future__ import annotations

import numpy as np

Csr = tuple[np.ndarray, np.ndarray, np.ndarray]  # offsets, terms rising in a row, values


def sparse_scores(queries: Csr, documents: Csr, dim: int) -> np.ndarray:
    """(num_queries, num_documents) f32: products added one by one, each rounded, over rising terms."""
    offsets, terms, values = documents
    scores = np.zeros((len(queries[0]) - 1, len(offsets) - 1), np.float32)
    dense = np.zeros((dim, len(offsets) - 1), np.float32)
    dense[terms, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))] = values
    for query in range(len(scores)):
        for entry in range(queries[0][query], queries[0][query + 1]):
            scores[query] += queries[2][entry] * dense[queries[1][entry]]
    return scores


def sparse_topk(
    queries: Csr, documents: Csr, dim: int, k: int, ids: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores (num_queries, k) of those above 0, by (score falling, id rising); -1 and 0 where none is left."""
    scores = sparse_scores(queries, documents, dim)
    ids = np.arange(scores.shape[1]) if ids is None else ids
    order = np.stack([np.lexsort((ids, -row)) for row in scores])[:, :k] if len(scores) else np.zeros((0, k), np.int64)
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(best > 0, ids[order], -1), np.where(best > 0, best, np.float32(0))
