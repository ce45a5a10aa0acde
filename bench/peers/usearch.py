"""USearch: exact search among binary codes."""

from __future__ import annotations

import numpy as np
from usearch.compiled import MetricKind
from usearch.index import search

from ..case import Contestant, Setting


def hamming_topk(setting: Setting, queries: np.ndarray, codes: np.ndarray, k: int) -> list[Contestant]:
    """queries, codes (n, bytes) uint8: distances of the k nearest, ascending."""

    def run() -> np.ndarray:
        found = search(codes, queries, k, MetricKind.Hamming, exact=True, threads=setting.threads, dtype="b1")
        return np.asarray(found.distances)

    return [Contestant("usearch", run, "bits", lambda found: np.atleast_2d(found).astype(np.int32))]
