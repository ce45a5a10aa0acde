"""Measures of a ranking against judgements, and of one list of numbers against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

NDCG_10: Final = "nDCG@10"
RECALL_10: Final = "R@10"
RECALL_100: Final = "R@100"
MRR_10: Final = "MRR@10"


def ndcg(ranked: Sequence[int], gains: Mapping[int, float], k: int) -> float:
    """Discounted gain of the first `k`, as a share of the best that any order of all judged documents reaches.

    The gain of a document is its judgement itself (linear), the discount of rank r = 1, 2, ... is log2(r + 1).

    Args:
        ranked: documents, best first, none twice.
        gains: of each judged document, above 0; of one at least.
    """
    found = sum(gains.get(document, 0.0) / np.log2(rank + 1) for rank, document in enumerate(ranked[:k], 1))
    best = sorted(gains.values(), reverse=True)[:k]
    return float(found / sum(gain / np.log2(rank + 1) for rank, gain in enumerate(best, 1)))


def recall(ranked: Sequence[int], gains: Mapping[int, float], k: int) -> float:
    """Share of the judged documents that are among the first `k`. Arguments as in `ndcg`."""
    return sum(document in gains for document in ranked[:k]) / len(gains)


def mrr(ranked: Sequence[int], gains: Mapping[int, float], k: int) -> float:
    """1 / rank of the first judged document among the first `k`; 0 if there is none. Arguments as in `ndcg`."""
    return next((1 / rank for rank, document in enumerate(ranked[:k], 1) if document in gains), 0.0)


def evaluate(order: np.ndarray, gains: Sequence[Mapping[int, float]]) -> dict[str, float]:
    """Means over the queries that have a judgement.

    Args:
        order: (num_queries, depth) integers, each query's documents, best first; the first ten at least (all of them,
            if the corpus is smaller).
        gains: of each query, by document.
    Returns: nDCG@10, R@10, MRR@10, and R@100 if depth is 100 or more.
    Raises: ValueError, the two disagree in length, or no query has a judgement.
    """
    if len(order) != len(gains):
        raise ValueError(f"evaluate: order and gains need one entry a query, got {len(order)} and {len(gains)}")
    judged = [(row.tolist(), known) for row, known in zip(order[:, :100], gains, strict=True) if known]
    if not judged:
        raise ValueError("evaluate: no query has a judgement")
    figures = {
        NDCG_10: [ndcg(ranked, known, 10) for ranked, known in judged],
        RECALL_10: [recall(ranked, known, 10) for ranked, known in judged],
        RECALL_100: [recall(ranked, known, 100) for ranked, known in judged] if order.shape[1] >= 100 else [],
        MRR_10: [mrr(ranked, known, 10) for ranked, known in judged],
    }
    return {name: float(np.mean(values)) for name, values in figures.items() if values}


def average_ranks(values: np.ndarray) -> np.ndarray:
    """(n,) f64: rank of each value from 1, smallest first; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    mean_rank: np.ndarray = last_rank - (counts - 1) / 2
    return mean_rank[places]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, ties sharing theirs.

    Args:
        a: (n,) finite.
        b: (n,) finite.
    Raises: ValueError, an argument breaks a line above, or all values of one are equal: then there is no correlation.
    """
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"spearman: a and b must be two lists of equal length, got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("spearman: a and b must be finite")
    ranks = [average_ranks(values) - (len(values) + 1) / 2 for values in (a, b)]
    norms = [float(np.sqrt(np.square(centred).sum())) for centred in ranks]
    if 0 in norms:
        raise ValueError("spearman: all values of a or of b are equal; their order says nothing")
    return float(ranks[0] @ ranks[1]) / (norms[0] * norms[1])
