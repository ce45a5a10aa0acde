"""Ways to rank a corpus for queries, from unit vectors of both (rules 4 to 7 of the protocol in README.md).

Another ranking of pooled vectors (centred codes, say) is one function and one line in `RANKINGS`. One that needs more
(late chunks, MaxSim over token vectors) gets a table of its own: `metrics.evaluate` and the report take any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

RESULTS: Final = 10  # documents that a rescored search returns
OVERSAMPLE: Final = 4


@dataclass(frozen=True, slots=True)
class Ranking:
    """A way to order documents: `order(queries (num_queries, dim), documents (num_documents, dim))` gives
    (num_queries, depth) places of documents, best first; depth is the whole corpus, or what a search returns."""

    title: str
    order: Callable[[np.ndarray, np.ndarray], np.ndarray]


def best_first(scores: np.ndarray) -> np.ndarray:
    """(num_queries, num_documents) places by falling score; of equal scores the earlier document first."""
    order: np.ndarray = np.argsort(-scores, axis=1, kind="stable")
    return order


def int8_levels(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels (n, dim) f32, integers from -127 to 127, and scales (n, 1) f32 of each vector: vector = levels * scale."""
    scales = np.abs(vectors).max(axis=1, keepdims=True) / np.float32(127)
    levels: np.ndarray = np.rint(vectors / np.where(scales > 0, scales, 1))
    return levels, scales


def signs(vectors: np.ndarray) -> np.ndarray:
    """1 where a value is above 0, else -1, f32. For two sign vectors of `dim` values, dot = dim - 2 * Hamming distance,
    and the sums are integers far below 2**24: exact."""
    bits: np.ndarray = np.where(vectors > 0, np.float32(1), np.float32(-1))
    return bits


def by_float(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """By the dot product: the cosine, as vectors are of unit length."""
    return best_first(queries @ documents.T)


def by_int8(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """By the dot product of both sides rounded to 8 bits with a scale for each vector."""
    (query_levels, query_scales), (document_levels, document_scales) = int8_levels(queries), int8_levels(documents)
    return best_first((query_levels @ document_levels.T) * query_scales * document_scales.T)


def by_hamming(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """By the number of dimensions whose signs differ, fewest first."""
    return best_first(signs(queries) @ signs(documents).T)


def by_rescored_bits(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The nearest by Hamming distance, ranked again by float query . signs of the document: (num_queries, 10)."""
    return _rescored(queries, documents, queries @ signs(documents).T)


def by_rescored_float(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The nearest by Hamming distance, ranked again by float query . float document: (num_queries, 10)."""
    return _rescored(queries, documents, queries @ documents.T)


def _rescored(queries: np.ndarray, documents: np.ndarray, scores: np.ndarray) -> np.ndarray:
    # Back in the order of the corpus, so that it settles ties of the second ranking as it does those of the first.
    nearest = np.sort(by_hamming(queries, documents)[:, : OVERSAMPLE * RESULTS], axis=1)
    again = best_first(np.take_along_axis(scores, nearest, axis=1))[:, :RESULTS]
    return np.take_along_axis(nearest, again, axis=1)


RANKINGS: Final[dict[str, Ranking]] = {
    "float32": Ranking("float32 cosine", by_float),
    "int8": Ranking("int8", by_int8),
    "binary": Ranking("binary, Hamming", by_hamming),
    "binary-x4-bits": Ranking("binary x4, by bits", by_rescored_bits),
    "binary-x4-float": Ranking("binary x4, by float", by_rescored_float),
}
