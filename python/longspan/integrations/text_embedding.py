"""What the frameworks' embedding classes share: queries and documents in, lists of floats out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from longspan.encoder import Encoder
from longspan.integrations import opened
from longspan.pipeline.options import EncodeOptions, OnTruncate


class TextEmbedding:
    """An Encoder that has been told how to embed.

    Args:
        model: an Encoder, or what it opens.
        function: the class that the user called, for messages.
        query_task: adapter for queries; None for the model's own choice.
        document_task: adapter for documents, likewise.
        truncate_dim: values to keep of a vector.
        normalize_embeddings: as `Encoder.encode`.
        on_truncate: as `Encoder.encode`.
    Raises: TypeError, `model` is something else; ValueError, the model lacks a task or a dim; what `Encoder` raises.
    """

    def __init__(
        self,
        model: Encoder | str | os.PathLike[str],
        function: str,
        *,
        query_task: str | None = None,
        document_task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> None:
        self.encoder = opened(model, Encoder, function)
        shared: EncodeOptions = {"truncate_dim": truncate_dim, "normalize_embeddings": normalize_embeddings}
        shared |= {"on_truncate": on_truncate, "show_progress_bar": False}
        self._for_queries: EncodeOptions = {**shared, "task": query_task}
        self._for_documents: EncodeOptions = {**shared, "task": document_task}
        self.query("a")  # a mistake in the options is said here, not after the first hour of documents
        self.documents(["a"])

    @property
    def dim(self) -> int:
        """Values of a vector."""
        return self._for_queries["truncate_dim"] or self.encoder.dim

    def query(self, text: str) -> list[float]:
        """The vector of a query. Raises: TypeError, no str."""
        return self.queries([text])[0]

    def queries(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of queries."""
        return _lists(self.encoder.encode_query(texts, **self._for_queries))

    def documents(self, texts: Sequence[str], *, show_progress_bar: bool = False) -> list[list[float]]:
        """The vectors of documents."""
        options: EncodeOptions = {**self._for_documents, "show_progress_bar": show_progress_bar}
        return _lists(self.encoder.encode_document(texts, **options))


def _lists(vectors: object) -> list[list[float]]:
    found: list[list[float]] = np.asarray(vectors).tolist()
    return found
