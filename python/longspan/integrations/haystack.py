"""longspan under Haystack 3: embedders for queries and for documents, a ranker, and late chunking.

from longspan.integrations.haystack import LongspanDocumentEmbedder
pipeline.add_component("embedder", LongspanDocumentEmbedder("jinaai/jina-embeddings-v3"))
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from longspan.encoder import Encoder
from longspan.integrations import missing
from longspan.integrations.late_chunks import LateChunking
from longspan.integrations.text_embedding import TextEmbedding
from longspan.integrations.text_reranking import Activation, TextReranking
from longspan.late_chunking.document_chunks import ChunkRule
from longspan.pipeline.options import OnTruncate
from longspan.reranker import Reranker
from longspan.sparse_encoder import SparseEncoder

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise missing("haystack", error) from error

Model = Encoder | str | os.PathLike[str]


class StoredComponent:
    """What the components share: a pipeline is stored by their arguments, where the model is a name."""

    _arguments: Mapping[str, object]

    def _keep(self, encoder: Encoder | Reranker | SparseEncoder, arguments: Mapping[str, object]) -> None:
        kept = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
        self._arguments = {**kept, "model": encoder.name}

    def to_dict(self) -> dict[str, Any]:
        """For Haystack's YAML. Raises: ValueError, an argument is a function, which YAML cannot hold."""
        for name, value in self._arguments.items():
            if callable(value):
                raise ValueError(f"{type(self).__name__}.to_dict: {name} is a function, which no file can hold")
        stored: dict[str, Any] = default_to_dict(self, **self._arguments)
        return stored

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """From what `to_dict` gave."""
        return default_from_dict(cls, data)


@component
class LongspanTextEmbedder(StoredComponent):
    """An Encoder for queries, with the model's own prompt and adapter for them.

    Args:
        model: an Encoder, or what it opens.
        task: an adapter other than the model's own choice.
        truncate_dim, normalize_embeddings, on_truncate: as `Encoder.encode`.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `Encoder` raises; at once.
    """

    def __init__(
        self,
        model: Model,
        *,
        task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> None:
        arguments = locals()
        self._embedding = TextEmbedding(
            model,
            "LongspanTextEmbedder",
            query_task=task,
            document_task=task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
            on_truncate=on_truncate,
        )
        self._keep(self._embedding.encoder, arguments)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """The vector of a query."""
        return {"embedding": self._embedding.query(text)}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, list[float]]:
        """The same, in a thread."""
        return await asyncio.to_thread(self.run, text)


@component
class LongspanDocumentEmbedder(StoredComponent):
    """An Encoder for documents, with the model's own prompt and adapter for them.

    Args:
        model, task, truncate_dim, normalize_embeddings, on_truncate: as `LongspanTextEmbedder`.
        meta_fields_to_embed: fields of a document's meta that go before its content, where it has them.
        embedding_separator: what stands between these parts.
        progress_bar: show one.
    Raises: as `LongspanTextEmbedder`.
    """

    def __init__(
        self,
        model: Model,
        *,
        task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        on_truncate: OnTruncate = "warn",
        meta_fields_to_embed: Sequence[str] = (),
        embedding_separator: str = "\n",
        progress_bar: bool = False,
    ) -> None:
        arguments = {**locals(), "meta_fields_to_embed": list(meta_fields_to_embed)}
        self._embedding = TextEmbedding(
            model,
            "LongspanDocumentEmbedder",
            query_task=task,
            document_task=task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
            on_truncate=on_truncate,
        )
        self._fields = list(meta_fields_to_embed)
        self._separator = embedding_separator
        self._progress_bar = progress_bar
        self._keep(self._embedding.encoder, arguments)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The documents, each with its vector; those given stay as they are.

        Raises: ValueError, a document has no text.
        """
        texts = joined_texts("LongspanDocumentEmbedder", documents, self._fields, self._separator)
        vectors = self._embedding.documents(texts, show_progress_bar=self._progress_bar)
        return {"documents": [replace(one, embedding=vector) for one, vector in zip(documents, vectors, strict=True)]}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The same, in a thread."""
        return await asyncio.to_thread(self.run, documents)


@component
class LongspanRanker(StoredComponent):
    """A Reranker as Haystack's ranker: the best documents of a query, best first, with its scores.

    Args:
        model: a Reranker, or what it opens.
        top_k: documents to keep; None for all.
        activation_fn, max_length, on_truncate: as `Reranker.predict`.
        meta_fields_to_embed: fields of a document's meta that go before its content, where it has them.
        embedding_separator: what stands between these parts.
        score_threshold: leave out documents with a lower score.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `Reranker` raises; at once.
    """

    def __init__(
        self,
        model: Reranker | str | os.PathLike[str],
        *,
        top_k: int | None = 10,
        activation_fn: Activation | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
        meta_fields_to_embed: Sequence[str] = (),
        embedding_separator: str = "\n",
        score_threshold: float | None = None,
    ) -> None:
        arguments = {**locals(), "meta_fields_to_embed": list(meta_fields_to_embed)}
        options = {"activation_fn": activation_fn, "max_length": max_length, "on_truncate": on_truncate}
        self._reranking = TextReranking(model, "LongspanRanker", top_k=top_k, **options)  # type: ignore[arg-type]
        self._fields = list(meta_fields_to_embed)
        self._separator = embedding_separator
        self._threshold = score_threshold
        self._keep(self._reranking.reranker, arguments)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """The documents that are kept, each with its score; those given stay as they are.

        Raises: ValueError, a document has no text.
        """
        texts = joined_texts("LongspanRanker", documents, self._fields, self._separator)
        ranking = self._reranking.rank(query, texts, top_k)
        least = -math.inf if self._threshold is None else self._threshold
        return {"documents": [replace(documents[place], score=score) for place, score in ranking if score >= least]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The same, in a thread."""
        return await asyncio.to_thread(self.run, query, documents, top_k)


@component
class LongspanLateChunkSplitter(StoredComponent):
    """Late chunking: it splits documents, and each piece comes with the vector that it got in its document.

    It stands where a splitter and a document embedder would stand: a DocumentWriter may follow.

    Args:
        model: an Encoder, or what it opens.
        chunks, chunk_tokens, chunk_overlap, task, truncate_dim, normalize_embeddings: as `Encoder.encode_chunks`.
    Raises: as `LongspanTextEmbedder`.
    """

    def __init__(
        self,
        model: Model,
        *,
        chunks: ChunkRule = "sentence",
        chunk_tokens: int | None = 256,
        chunk_overlap: int = 0,
        task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
    ) -> None:
        arguments = locals()
        self._chunking = LateChunking(
            model,
            "LongspanLateChunkSplitter",
            chunks=chunks,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            task=task,
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
        )
        self._keep(self._chunking.encoder, arguments)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The pieces, with their vectors; to the documents' meta come source_id, split_id, split_idx_start and
        split_idx_end, in characters.

        Raises: ValueError, a document has no text.
        """
        texts = joined_texts("LongspanLateChunkSplitter", documents, (), "")
        pieces: list[Document] = []
        for document, chunks in zip(documents, self._chunking.split(texts), strict=True):
            for number, chunk in enumerate(chunks):
                place = {"split_id": number, "split_idx_start": chunk.start, "split_idx_end": chunk.end}
                meta = {**document.meta, "source_id": document.id, **place}
                pieces.append(Document(content=chunk.text, meta=meta, embedding=chunk.embedding))
        return {"documents": pieces}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The same, in a thread."""
        return await asyncio.to_thread(self.run, documents)


def joined_texts(function: str, documents: Sequence[Document], fields: Sequence[str], separator: str) -> list[str]:
    """Each document's content behind these fields of its meta, where it has them. Raises: ValueError, one has none."""
    texts = []
    for place, document in enumerate(documents):
        if not isinstance(document.content, str):
            got = type(document.content).__name__
            raise ValueError(f"{function}: documents[{place}].content must be a str, got {got}; leave it out")
        given = [str(document.meta[name]) for name in fields if document.meta.get(name) is not None]
        texts.append(separator.join([*given, document.content]))
    return texts
