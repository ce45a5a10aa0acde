"""FAISS: exact search among binary codes."""

from __future__ import annotations

import faiss
import numpy as np

from ..case import Contestant, Setting


def hamming_topk(setting: Setting, queries: np.ndarray, codes: np.ndarray, k: int) -> list[Contestant]:
    """queries, codes (n, bytes) uint8: distances of the k nearest, ascending."""
    faiss.omp_set_num_threads(setting.threads)
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    return [Contestant("faiss", lambda: index.search(queries, k), "bits", lambda found: found[0])]
