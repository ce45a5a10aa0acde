"""scipy.sparse: CSR times dense rows, on one thread, whatever the setting says."""

from __future__ import annotations

import numpy as np
import scipy.sparse  # type: ignore[import-untyped]

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
