"""longspan behind PyLate's interface: `encode` as its ColBERT model has it, `rerank` as its rank module.

    from longspan.integrations.pylate import ColBERT, rerank
    model = ColBERT("jinaai/jina-colbert-v2")
    queries = model.encode(["a question"], is_query=True)
    documents = model.encode([["a passage", "another"]], is_query=False)
    rerank(documents_ids=[["a", "b"]], queries_embeddings=queries, documents_embeddings=documents)

PyLate itself is not needed. Where it is installed, its own rerank, retrievers and indexes take these vectors too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias, TypedDict, TypeVar

import numpy as np

from longspan.integrations import opened, refuse
from longspan.multi_vector import MultiVectorEncoder
from longspan.search.late_interaction import rank

Id = TypeVar("Id", str, int)
Texts: TypeAlias = "str | Sequence[str] | Sequence[Sequence[str]]"
Vectors: TypeAlias = "np.ndarray | list[np.ndarray] | list[list[np.ndarray]]"


class Reranked(TypedDict):
    """A document and its MaxSim score."""

    id: str | int
    score: float


class ColBERT:
    """A MultiVectorEncoder with the `encode` of PyLate's ColBERT.

    Args:
        model_name_or_path: a longspan MultiVectorEncoder, or what it opens. Lengths, markers and the skip list are
            those of its files, or of the encoder given.
    Raises: TypeError, it is something else; what `MultiVectorEncoder` raises.
    """

    def __init__(self, model_name_or_path: MultiVectorEncoder | str | os.PathLike[str]) -> None:
        self.encoder = opened(model_name_or_path, MultiVectorEncoder, "ColBERT")

    def encode(
        self,
        sentences: Texts,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        is_query: bool = True,
        convert_to_numpy: bool = True,
        **options: object,
    ) -> Vectors:
        """Token vectors: for one text (tokens, dim), for a list one such array each, for lists of lists the same shape.

        Raises: TypeError or ValueError, as `MultiVectorEncoder`; an option of PyLate's that has no meaning here.
        """
        refuse("encode", options, "see MultiVectorEncoder for lengths and markers")
        if not convert_to_numpy:
            raise ValueError("encode: convert_to_numpy must be True; torch.from_numpy makes tensors without a copy")
        encode = self.encoder.encode_queries if is_query else self.encoder.encode_documents
        if isinstance(sentences, str):
            return encode(sentences, batch_size=batch_size, show_progress_bar=show_progress_bar)
        nested = [not isinstance(one, str) for one in sentences]
        flat: list[str] = []
        for one in sentences:
            flat += [one] if isinstance(one, str) else one
        if any(nested) and not all(nested):
            raise TypeError("encode: sentences must be all texts or all lists of texts, got both")
        found = list(encode(flat, batch_size=batch_size, show_progress_bar=show_progress_bar))
        if not any(nested):
            return found
        ends = np.cumsum([0, *map(len, sentences)])
        return [found[start:end] for start, end in pairwise(ends)]


def rerank(
    documents_ids: Sequence[Sequence[Id]],
    queries_embeddings: Sequence[np.ndarray],
    documents_embeddings: Sequence[Sequence[np.ndarray]],
    device: str | None = None,
) -> list[list[Reranked]]:
    """Each query's documents, best first, by our MaxSim; equal ones in order.

    Args:
        documents_ids: for each query the ids of its documents.
        queries_embeddings: for each query (tokens, dim), or one such array for one query.
        documents_embeddings: for each query its documents' arrays (tokens, dim).
        device: None or "cpu".
    Raises: ValueError, the three are not of one length, or the ids of a query and its documents are not; TypeError or
        ValueError, as `MultiVectorEncoder.rank`.
    """
    if device not in (None, "cpu"):
        raise ValueError(f"rerank: device must be None or 'cpu', got {device!r}")
    whole = isinstance(queries_embeddings, np.ndarray) and queries_embeddings.ndim == 2
    queries = [queries_embeddings] if whole else list(queries_embeddings)
    if not len(documents_ids) == len(queries) == len(documents_embeddings):
        raise ValueError(
            f"rerank: ids, queries and documents must be of one length, got {len(documents_ids)}, {len(queries)} and "
            f"{len(documents_embeddings)}"
        )
    results: list[list[Reranked]] = []
    for place, (ids, query, documents) in enumerate(zip(documents_ids, queries, documents_embeddings)):
        if len(ids) != len(documents):
            raise ValueError(f"rerank: query {place} has {len(ids)} ids and {len(documents)} documents")
        found = rank(np.asarray(query), list(documents), len(documents)) if len(documents) else []
        results.append([{"id": ids[one.document], "score": one.score} for one in found])
    return results
