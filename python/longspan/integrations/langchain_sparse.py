"""Sparse vectors under LangChain: the SparseEmbeddings that its Qdrant store takes beside, or instead of, dense ones.

from longspan.integrations.langchain_sparse import LongspanSparseEmbeddings
sparse = LongspanSparseEmbeddings("naver/splade-v3")
QdrantVectorStore.from_texts(texts, sparse_embedding=sparse, retrieval_mode=RetrievalMode.SPARSE, location=":memory:")
"""

from __future__ import annotations

import os

from longspan.integrations import missing
from longspan.integrations.text_sparse import Entries, TextSparse
from longspan.pipeline.options import OnTruncate
from longspan.sparse_encoder import SparseEncoder

try:
    from langchain_qdrant import SparseEmbeddings
    from langchain_qdrant.sparse_embeddings import SparseVector
except ImportError as error:
    raise missing("langchain-qdrant", error) from error


class LongspanSparseEmbeddings(SparseEmbeddings):
    """A SparseEncoder as langchain-qdrant's sparse embeddings: queries and documents each as the model wants them.

    The asynchronous methods are LangChain's: they run these in a thread, and the kernels let other threads work.

    Args:
        model: a SparseEncoder, or what it opens.
        query_task, document_task: adapters other than the model's own choice.
        max_active_dims, max_length, on_truncate: as `SparseEncoder.encode`.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `SparseEncoder` raises; at once.
    """

    def __init__(
        self,
        model: SparseEncoder | str | os.PathLike[str],
        *,
        query_task: str | None = None,
        document_task: str | None = None,
        max_active_dims: int | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> None:
        self._sparse = TextSparse(
            model,
            "LongspanSparseEmbeddings",
            query_task=query_task,
            document_task=document_task,
            max_active_dims=max_active_dims,
            max_length=max_length,
            on_truncate=on_truncate,
        )

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """The vectors of documents."""
        return [_vector(row) for row in self._sparse.documents(texts)]

    def embed_query(self, text: str) -> SparseVector:
        """The vector of a query."""
        return _vector(self._sparse.queries([text])[0])


def _vector(row: Entries) -> SparseVector:
    return SparseVector(indices=row[0], values=row[1])
