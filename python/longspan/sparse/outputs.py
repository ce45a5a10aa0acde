"""What bge-m3 makes of texts, and how its three kinds of vectors score documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Final

import numpy as np

from longspan.search.late_interaction import score
from longspan.vectors.arrays import FloatArray
from longspan.vectors.sparse import SparseVectors, dot

LARGEST_WEIGHT: Final = 1e30


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutputs:
    """Outputs of one pass; None for what was not asked for.

    Attributes:
        dense: (n, hidden_size) f32 of unit length.
        sparse: n rows.
        multi_vector: for each text (tokens - 1, dim) f32, rows of unit length.
    """

    dense: FloatArray | None
    sparse: SparseVectors | None
    multi_vector: list[FloatArray] | None

    def __repr__(self) -> str:
        dense = None if self.dense is None else self.dense.shape
        texts = "None" if self.multi_vector is None else f"{len(self.multi_vector)} texts"
        return f"ModelOutputs(dense={dense}, sparse={self.sparse}, multi_vector={texts})"

    def scores(self, documents: ModelOutputs, weights: Sequence[float] = (1.0, 1.0, 1.0)) -> FloatArray:
        """(n, number of documents) f32: how well documents answer these queries, higher is closer.

        (w0 dense + w1 sparse + w2 multi_vector) / (w0 + w1 + w2) of the kinds that both have and whose weight is not 0:
        dense and sparse dot products, and MaxSim as a mean over the query's vectors.

        Args:
            documents: outputs of the same model.
            weights: of dense, sparse and multi_vector, 0 or above; the model's card uses 0.4, 0.2, 0.4.
        Raises: ValueError, weights are not three numbers of 0 or above, or no kind is left.
        """
        given = list(weights) if isinstance(weights, Iterable) else [weights]
        are_numbers = all(isinstance(one, Real) and 0 <= one <= LARGEST_WEIGHT for one in given)
        if len(given) != 3 or not are_numbers:
            raise ValueError(f"scores: weights must be three numbers of 0 or above, got {given}")
        if not isinstance(documents, ModelOutputs):
            raise TypeError(f"scores: documents must be what encode_outputs gives, got {type(documents).__name__}")
        pairs = zip(given, _parts(self, documents), strict=True)
        weighted = [(weight, part) for weight, part in pairs if part is not None and weight]
        if not weighted:
            raise ValueError("scores: queries and documents have no output in common whose weight is above 0")
        total = sum(weight * part.astype(np.float64) for weight, part in weighted)
        return np.asarray(total / sum(weight for weight, _ in weighted), np.float32)


def _parts(queries: ModelOutputs, documents: ModelOutputs) -> list[np.ndarray | None]:
    """Scores by each kind of vector, None where one side has none."""
    parts: list[np.ndarray | None] = [None, None, None]
    if queries.dense is not None and documents.dense is not None:
        parts[0] = queries.dense @ documents.dense.T
    if queries.sparse is not None and documents.sparse is not None:
        parts[1] = dot(queries.sparse, documents.sparse)
    if queries.multi_vector is not None and documents.multi_vector is not None:
        lengths = np.array([len(vectors) for vectors in queries.multi_vector], np.float32)
        parts[2] = score(queries.multi_vector, documents.multi_vector) / np.maximum(lengths, 1)[:, None]
    return parts
