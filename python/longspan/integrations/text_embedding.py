"""What the frameworks' embedding classes share: queries and documents in, lists of floats out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from longspan.encoder import Encoder
from longspan.integrations import opened
from longspan.pipeline.options import AnyOptions, EncodeOptions, OnTruncate


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
        model_kwargs: further arguments of `Encoder`.
        encode_kwargs: further ones of `Encoder.encode`, for documents and queries.
        query_encode_kwargs: for queries, in place of `encode_kwargs`.
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
        model_kwargs: Mapping[str, object] | None = None,
        encode_kwargs: Mapping[str, object] | None = None,
        query_encode_kwargs: Mapping[str, object] | None = None,
    ) -> None:
        self.encoder = opened(model, Encoder, function, options=model_kwargs)
        shared: EncodeOptions = {"truncate_dim": truncate_dim, "normalize_embeddings": normalize_embeddings}
        shared |= {"on_truncate": on_truncate, "show_progress_bar": False}
        further = encode_kwargs or {}
        for_queries = further if query_encode_kwargs is None else query_encode_kwargs
        self._for_queries = cast(AnyOptions, {**shared, "task": query_task, **for_queries})
        self._for_documents = cast(AnyOptions, {**shared, "task": document_task, **further})
        self.query("a")  # a mistake in the options is said here, not after the first hour of documents
        self.documents(["a"])

    @property
    def dim(self) -> int:
        """Values of a vector."""
        return self._for_queries.get("truncate_dim") or self.encoder.dim

    def query(self, text: str) -> list[float]:
        """The vector of a query. Raises: TypeError, no str."""
        return self.queries([text])[0]

    def queries(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of queries."""
        return _lists(self.encoder.encode_query(texts, **self._for_queries))

    def documents(self, texts: Sequence[str], *, show_progress_bar: bool = False) -> list[list[float]]:
        """The vectors of documents."""
        options = self._for_documents
        if show_progress_bar:
            options = {**options, "show_progress_bar": True}
        return _lists(self.encoder.encode_document(texts, **options))


def _lists(vectors: object) -> list[list[float]]:
    found: list[list[float]] = np.asarray(vectors).tolist()
    return found
