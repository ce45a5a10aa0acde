"""Sparse vectors under Haystack 3: embedders for queries and for documents.

from longspan.integrations.haystack_sparse import LongspanSparseDocumentEmbedder
pipeline.add_component("embedder", LongspanSparseDocumentEmbedder("naver/splade-v3"))
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

from longspan.integrations import missing
from longspan.integrations.text_sparse import TextSparse
from longspan.pipeline.options import OnTruncate
from longspan.sparse_encoder import SparseEncoder

try:
    from haystack import Document, component
    from haystack.dataclasses import SparseEmbedding
except ImportError as error:
    raise missing("haystack", error) from error

from longspan.integrations.haystack import StoredComponent, joined_texts

Model = SparseEncoder | str | os.PathLike[str]


@component
class LongspanSparseTextEmbedder(StoredComponent):
    """A SparseEncoder for queries, as the model wants them.

    Args:
        model: a SparseEncoder, or what it opens.
        task: an adapter other than the model's own choice.
        max_active_dims, max_length, on_truncate: as `SparseEncoder.encode`.
    Raises: TypeError or ValueError, an argument is wrong for this model, and what `SparseEncoder` raises; at once.
    """

    def __init__(
        self,
        model: Model,
        *,
        task: str | None = None,
        max_active_dims: int | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> None:
        arguments = locals()
        self._sparse = TextSparse(
            model,
            "LongspanSparseTextEmbedder",
            query_task=task,
            document_task=task,
            max_active_dims=max_active_dims,
            max_length=max_length,
            on_truncate=on_truncate,
        )
        self._keep(self._sparse.encoder, arguments)

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, SparseEmbedding]:
        """The vector of a query."""
        [(indices, values)] = self._sparse.queries([text])
        return {"sparse_embedding": SparseEmbedding(indices, values)}

    @component.output_types(sparse_embedding=SparseEmbedding)
    async def run_async(self, text: str) -> dict[str, SparseEmbedding]:
        """The same, in a thread."""
        return await asyncio.to_thread(self.run, text)


@component
class LongspanSparseDocumentEmbedder(StoredComponent):
    """A SparseEncoder for documents, as the model wants them.

    Args:
        model, task, max_active_dims, max_length, on_truncate: as `LongspanSparseTextEmbedder`.
        meta_fields_to_embed: fields of a document's meta that go before its content, where it has them.
        embedding_separator: what stands between these parts.
        progress_bar: show one.
    Raises: as `LongspanSparseTextEmbedder`.
    """

    def __init__(
        self,
        model: Model,
        *,
        task: str | None = None,
        max_active_dims: int | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
        meta_fields_to_embed: Sequence[str] = (),
        embedding_separator: str = "\n",
        progress_bar: bool = False,
    ) -> None:
        arguments = {**locals(), "meta_fields_to_embed": list(meta_fields_to_embed)}
        self._sparse = TextSparse(
            model,
            "LongspanSparseDocumentEmbedder",
            query_task=task,
            document_task=task,
            max_active_dims=max_active_dims,
            max_length=max_length,
            on_truncate=on_truncate,
        )
        self._fields = list(meta_fields_to_embed)
        self._separator = embedding_separator
        self._progress_bar = progress_bar
        self._keep(self._sparse.encoder, arguments)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The documents, each with its sparse vector; those given stay as they are.

        Raises: ValueError, a document has no text.
        """
        texts = joined_texts("LongspanSparseDocumentEmbedder", documents, self._fields, self._separator)
        rows = self._sparse.documents(texts, show_progress_bar=self._progress_bar)
        pairs = zip(documents, rows, strict=True)
        return {"documents": [replace(one, sparse_embedding=SparseEmbedding(*row)) for one, row in pairs]}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The same, in a thread."""
        return await asyncio.to_thread(self.run, documents)
