"""Sparse vectors under LlamaIndex: its own interface, and what its Qdrant and Milvus stores take.

from longspan.integrations.llama_index_sparse import LongspanSparseEmbedding
sparse = LongspanSparseEmbedding("naver/splade-v3")
QdrantVectorStore("docs", client, enable_hybrid=True, sparse_doc_fn=sparse.encode_lists,
                  sparse_query_fn=sparse.encode_query_lists)
MilvusVectorStore(enable_sparse=True, sparse_embedding_function=sparse.for_milvus(), ...)
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from longspan.integrations import missing
from longspan.integrations.text_sparse import Entries, TextSparse
from longspan.pipeline.options import OnTruncate
from longspan.sparse_encoder import SparseEncoder

try:
    from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
except ImportError as error:
    raise missing("llama-index", error) from error

Weights = dict[int, float]
Lists = tuple[list[list[int]], list[list[float]]]


class LongspanSparseEmbedding(BaseSparseEmbedding):
    """A SparseEncoder as LlamaIndex's sparse embedding: queries and documents each as the model wants them.

    The asynchronous methods run these in a thread, and the kernels let other threads work.

    Args:
        model: a SparseEncoder, or what it opens.
        query_task, document_task: adapters other than the model's own choice.
        max_active_dims, max_length, on_truncate: as `SparseEncoder.encode`.
        embed_batch_size: texts that LlamaIndex hands over at once; its own 10 leave most of the speed unused.
        settings: of LlamaIndex's BaseSparseEmbedding.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `SparseEncoder` raises; at once.
    """

    _sparse: TextSparse = PrivateAttr()

    def __init__(
        self,
        model: SparseEncoder | str | os.PathLike[str],
        *,
        query_task: str | None = None,
        document_task: str | None = None,
        max_active_dims: int | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
        embed_batch_size: int = 1024,
        **settings: Any,
    ) -> None:
        sparse = TextSparse(
            model,
            "LongspanSparseEmbedding",
            query_task=query_task,
            document_task=document_task,
            max_active_dims=max_active_dims,
            max_length=max_length,
            on_truncate=on_truncate,
        )
        super().__init__(model_name=sparse.encoder.name, embed_batch_size=embed_batch_size, **settings)
        self._sparse = sparse

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "LongspanSparseEmbedding"

    def encode_lists(self, texts: list[str]) -> Lists:
        """The vectors of documents, as (dimensions, weights): QdrantVectorStore's `sparse_doc_fn`."""
        return _lists(self._sparse.documents(texts))

    def encode_query_lists(self, texts: list[str]) -> Lists:
        """The same of queries: QdrantVectorStore's `sparse_query_fn`."""
        return _lists(self._sparse.queries(texts))

    def for_milvus(self) -> Any:
        """MilvusVectorStore's `sparse_embedding_function`. Raises: ImportError, that store is not installed."""
        from llama_index.vector_stores.milvus.utils import BaseSparseEmbeddingFunction

        sparse = self._sparse

        class MilvusFunction(BaseSparseEmbeddingFunction):
            def encode_queries(self, queries: list[str]) -> list[Weights]:
                return [_weights(row) for row in sparse.queries(queries)]

            def encode_documents(self, documents: list[str]) -> list[Weights]:
                return [_weights(row) for row in sparse.documents(documents)]

            async def async_encode_queries(self, queries: list[str]) -> list[Weights]:
                return await asyncio.to_thread(self.encode_queries, queries)

            async def async_encode_documents(self, documents: list[str]) -> list[Weights]:
                return await asyncio.to_thread(self.encode_documents, documents)

        return MilvusFunction()

    def _get_query_embedding(self, query: str) -> Weights:
        return _weights(self._sparse.queries([query])[0])

    def _get_text_embedding(self, text: str) -> Weights:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Weights]:
        return [_weights(row) for row in self._sparse.documents(texts)]

    async def _aget_query_embedding(self, query: str) -> Weights:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> Weights:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Weights]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def _weights(row: Entries) -> Weights:
    return dict(zip(*row, strict=True))


def _lists(rows: list[Entries]) -> Lists:
    return [indices for indices, _ in rows], [values for _, values in rows]
