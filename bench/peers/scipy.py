"""scipy.sparse: CSR times dense rows, and CSR times CSR, on one thread, whatever the setting says."""

from __future__ import annotations

import numpy as np
import scipy.sparse  # type: ignore[import-untyped]

from longspan import SparseVectors

from ..case import Contestant, Setting


def retrofit_step(
    setting: Setting, vectors: np.ndarray, indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray,
    base: np.ndarray, anchor: np.ndarray, divisor: np.ndarray,
) -> list[Contestant]:  # fmt: skip
    """The product, then the epilogue in NumPy, in place."""
    matrix = scipy.sparse.csr_matrix((weights, indices, indptr), shape=(len(base), len(vectors)))

    def run() -> np.ndarray:
        found: np.ndarray = matrix @ vectors
        found += anchor[:, None] * base
        found /= divisor[:, None]
        return found

    return [Contestant("scipy", run, note="one thread")]


def sparse_topk(setting: Setting, documents: SparseVectors, queries: SparseVectors, k: int) -> list[Contestant]:
    """queries times the documents' transpose, which is kept as CSR: lists of documents by term; on one thread."""
    by_term = scipy.sparse.csr_array(documents.to_scipy()).T.tocsr()
    asked = scipy.sparse.csr_array(queries.to_scipy())

    def run() -> np.ndarray:
        scores = (asked @ by_term).tocsr()
        best = np.zeros((len(queries), k), np.float32)
        for row in range(len(queries)):
            found = scores.data[scores.indptr[row] : scores.indptr[row + 1]]
            top = np.sort(np.partition(found, -k)[-k:])[::-1] if len(found) > k else np.sort(found)[::-1]
            best[row, : len(top)] = top
        return best

    return [Contestant("scipy", run, note="one thread")]
