"""maxsim in plain NumPy, in the dtype of `q`."""

from __future__ import annotations

import numpy as np


def maxsim(q: np.ndarray, d: np.ndarray, cu_seqlens_q: np.ndarray, cu_seqlens_d: np.ndarray) -> np.ndarray:
    """(num_queries, num_docs): the sum over a query's tokens of their best dot product with a document's tokens."""
    docs = np.arange(len(cu_seqlens_d) - 1)
    pairs = [np.stack([np.full_like(docs, query), docs], axis=1) for query in range(len(cu_seqlens_q) - 1)]
    scores = [maxsim_pairs(q, d, cu_seqlens_q, cu_seqlens_d, of_query) for of_query in pairs]
    return np.stack(scores) if scores else np.empty((0, len(docs)), q.dtype)


def maxsim_pairs(
    q: np.ndarray, d: np.ndarray, cu_seqlens_q: np.ndarray, cu_seqlens_d: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """(num_pairs,): the scores of these (query, document) pairs."""
    scores = np.zeros(len(pairs), q.dtype)
    for i, (query, doc) in enumerate(pairs):
        tokens = q[cu_seqlens_q[query] : cu_seqlens_q[query + 1]]
        products = tokens @ d[cu_seqlens_d[doc] : cu_seqlens_d[doc + 1]].astype(q.dtype).T
        scores[i] = products.max(axis=1).sum()
    return scores


def maxsim_topk(
    q: np.ndarray, d: np.ndarray, cu_seqlens_q: np.ndarray, cu_seqlens_d: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(num_queries, k) scores and documents: score falling, then document rising; NaN last."""
    scores = maxsim(q, d, cu_seqlens_q, cu_seqlens_d)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # NaN sorts last
    return np.take_along_axis(scores, rows, axis=1), rows
