"""`longspan search query` with a sparse model beside the dense one: one list of both."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

Fusion = Literal["ranks", "scores", "dense", "sparse"]
FUSIONS: Final[tuple[Fusion, ...]] = get_args(Fusion)
CANDIDATES: Final = 100  # of each kind, at least, before they are one list


def fused(
    dense: tuple[np.ndarray, np.ndarray],
    sparse: tuple[np.ndarray, np.ndarray],
    k: int,
    fusion: Fusion,
    weights: tuple[float, float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores (n, k) of two searches' ids and scores: one of them, or both joined as `search.fusion` does."""
    from longspan.search.fusion import fuse_ranks, fuse_scores

    if fusion in ("dense", "sparse"):
        ids, scores = dense if fusion == "dense" else sparse
        return ids[:, :k], scores[:, :k]
    if fusion == "ranks":
        found = fuse_ranks([dense[0], sparse[0]], k, weights=weights)
    else:
        found = fuse_scores([dense, sparse], k, weights=weights)
    return found.ids, found.scores
