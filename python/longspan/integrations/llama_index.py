"""longspan under LlamaIndex: an embedding model, a reranker, and late chunking as a node parser.

from longspan.integrations.llama_index import LongspanEmbedding
Settings.embed_model = LongspanEmbedding("jinaai/jina-embeddings-v3")
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, ClassVar

from longspan.encoder import Encoder
from longspan.integrations import missing, one_model
from longspan.integrations.late_chunks import LateChunking
from longspan.integrations.text_embedding import TextEmbedding
from longspan.integrations.text_reranking import Activation, TextReranking
from longspan.late_chunking.document_chunks import ChunkRule
from longspan.pipeline.options import OnTruncate
from longspan.reranker import Reranker

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.node_parser import NodeParser
    from llama_index.core.node_parser.node_utils import build_nodes_from_splits
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise missing("llama-index", error) from error


class LongspanEmbedding(BaseEmbedding):
    """An Encoder as LlamaIndex's embedding model: queries and texts take the model's own prompts and adapters.

    The asynchronous methods run these in a thread, and the kernels let other threads work.

    Args:
        model: an Encoder, or what it opens; or by the name that HuggingFaceEmbedding has for it, `model_name`.
        query_task, document_task: tasks other than the model's own choice.
        truncate_dim, normalize_embeddings, on_truncate: as `Encoder.encode`.
        embed_batch_size: texts that LlamaIndex hands over at once; its own 10 leave most of the speed unused.
        settings: of LlamaIndex's BaseEmbedding, such as callback_manager.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `Encoder` raises; at once.
    """

    _embedding: TextEmbedding = PrivateAttr()

    def __init__(
        self,
        model: Encoder | str | os.PathLike[str] | None = None,
        *,
        model_name: str | None = None,
        query_task: str | None = None,
        document_task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        on_truncate: OnTruncate = "warn",
        embed_batch_size: int = 1024,
        **settings: Any,
    ) -> None:
        embedding = TextEmbedding(
            one_model("LongspanEmbedding", model, model_name),
            "LongspanEmbedding",
            query_task=query_task,
            document_task=document_task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
            on_truncate=on_truncate,
        )
        super().__init__(model_name=embedding.encoder.name, embed_batch_size=embed_batch_size, **settings)
        self._embedding = embedding

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "LongspanEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedding.query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedding.documents(texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class LongspanRerank(BaseNodePostprocessor):
    """A Reranker as LlamaIndex's node postprocessor: the best nodes of a query, best first, with its scores.

    Args:
        model: a Reranker, or what it opens.
        top_n: nodes to keep; None for all.
        keep_retrieval_score: put the score that a node came with into its metadata, as "retrieval_score".
        activation_fn, max_length, on_truncate: as `Reranker.predict`.
        settings: of LlamaIndex's BaseNodePostprocessor, such as callback_manager.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `Reranker` raises; at once.
    """

    _reranking: TextReranking = PrivateAttr()
    _keeps_score: bool = PrivateAttr()

    def __init__(
        self,
        model: Reranker | str | os.PathLike[str],
        *,
        top_n: int | None = 2,
        keep_retrieval_score: bool = False,
        activation_fn: Activation | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        options = {"activation_fn": activation_fn, "max_length": max_length, "on_truncate": on_truncate}
        self._reranking = TextReranking(model, "LongspanRerank", top_k=top_n, **options)  # type: ignore[arg-type]
        self._keeps_score = keep_retrieval_score

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "LongspanRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("LongspanRerank: a query is needed: give query_str or query_bundle")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        kept: list[NodeWithScore] = []
        for place, score in self._reranking.rank(query_bundle.query_str, texts):
            node = nodes[place]
            if self._keeps_score:
                node.node.metadata["retrieval_score"] = node.score
            kept.append(NodeWithScore(node=node.node, score=score))
        return kept


class LateChunkNodeParser(NodeParser):
    """Late chunking: nodes that come with their vectors, which an index takes as they are.

        index = VectorStoreIndex(LateChunkNodeParser(encoder).get_nodes_from_documents(documents), embed_model=...)

    Args:
        model: an Encoder, or what it opens.
        chunks, chunk_tokens, chunk_overlap, task, truncate_dim, normalize_embeddings: as `Encoder.encode_chunks`.
        settings: of LlamaIndex's NodeParser, such as include_metadata. Metadata is no part of what is embedded.
    Raises: as `LongspanEmbedding`.
    """

    model_config: ClassVar[dict[str, bool]] = {"arbitrary_types_allowed": True}
    _chunking: LateChunking = PrivateAttr()

    def __init__(
        self,
        model: Encoder | str | os.PathLike[str],
        *,
        chunks: ChunkRule = "sentence",
        chunk_tokens: int | None = 256,
        chunk_overlap: int = 0,
        task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._chunking = LateChunking(
            model,
            "LateChunkNodeParser",
            chunks=chunks,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            task=task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
        )

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "LateChunkNodeParser"

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        parsed: list[BaseNode] = []
        documents = self._chunking.split([node.get_content() for node in nodes])
        for node, chunks in zip(nodes, documents, strict=True):
            pieces = build_nodes_from_splits([chunk.text for chunk in chunks], node, id_func=self.id_func)
            for piece, chunk in zip(pieces, chunks, strict=True):
                piece.embedding = chunk.embedding
                piece.start_char_idx, piece.end_char_idx = chunk.start, chunk.end
            parsed += pieces
        return parsed

    async def _aparse_nodes(
        self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any
    ) -> list[BaseNode]:
        return await asyncio.to_thread(self._parse_nodes, nodes, show_progress, **kwargs)
