"""What the frameworks' sparse embedding classes share: queries and documents in, dimensions and weights out."""

from __future__ import annotations

import os
from collections.abc import Sequence

from longspan.integrations import opened
from longspan.pipeline.options import OnTruncate
from longspan.sparse_encoder import SparseEncoder, SparseOptions
from longspan.vectors.sparse import SparseVectors

Entries = tuple[list[int], list[float]]  # the dimensions that are not zero, rising, and their weights


class TextSparse:
    """A SparseEncoder that has been told how to embed.

    Args:
        model: a SparseEncoder, or what it opens.
        function: the class that the user called, for messages.
        query_task, document_task: adapters, where the model has some; None for the model's own choice.
        max_active_dims: entries of a vector at most, the largest; None for the model's own number.
        max_length, on_truncate: as `SparseEncoder.encode`.
    Raises: TypeError, `model` is something else; ValueError, an option is wrong; and what `SparseEncoder` raises.
    """

    def __init__(
        self,
        model: SparseEncoder | str | os.PathLike[str],
        function: str,
        *,
        query_task: str | None = None,
        document_task: str | None = None,
        max_active_dims: int | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> None:
        self.encoder = opened(model, SparseEncoder, function)
        self._tasks = {"query": query_task, "document": document_task}
        self._most = max_active_dims
        self._options: SparseOptions = {"max_length": max_length, "on_truncate": on_truncate}
        self.queries(["a"])  # a mistake in the options is said here, not after the first hour of documents
        self.documents(["a"])

    def query_vectors(self, texts: Sequence[str]) -> SparseVectors:
        """The vectors of queries. Raises: TypeError, no list of str."""
        return self.encoder.encode_query(
            texts, task=self._tasks["query"], max_active_dims=self._most, **self._told(show_progress_bar=False)
        )

    def document_vectors(self, texts: Sequence[str], *, show_progress_bar: bool = False) -> SparseVectors:
        """The vectors of documents. Raises: TypeError, no list of str."""
        options = self._told(show_progress_bar=show_progress_bar)
        return self.encoder.encode_document(texts, task=self._tasks["document"], max_active_dims=self._most, **options)

    def _told(self, *, show_progress_bar: bool) -> SparseOptions:
        return {**self._options, "show_progress_bar": show_progress_bar}

    def queries(self, texts: Sequence[str]) -> list[Entries]:
        """The same, as lists."""
        return entries(self.query_vectors(texts))

    def documents(self, texts: Sequence[str], *, show_progress_bar: bool = False) -> list[Entries]:
        """The same, as lists."""
        return entries(self.document_vectors(texts, show_progress_bar=show_progress_bar))


def entries(vectors: SparseVectors) -> list[Entries]:
    """Each row as lists of plain numbers."""
    return [(row.indices.tolist(), row.values.tolist()) for row in vectors]
