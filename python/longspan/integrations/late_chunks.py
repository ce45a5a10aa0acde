"""Late chunking as the frameworks' splitters do it: documents in; texts, places and vectors out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from longspan.encoder import Encoder
from longspan.integrations import opened
from longspan.late_chunking.document_chunks import ChunkRule


class LateChunk(NamedTuple):
    """A piece of a document, with a vector in whose making the encoder saw the whole of it."""

    text: str
    start: int  # in characters of the document
    end: int
    embedding: list[float]


class LateChunking:
    """An Encoder that has been told how to cut documents.

    Args:
        model: an Encoder, or what it opens.
        function: the class that the user called, for messages.
        chunks, chunk_tokens, chunk_overlap, task, truncate_dim, normalize_embeddings: as `Encoder.encode_chunks`.
    Raises: TypeError or ValueError, as `Encoder.encode_chunks`; what `Encoder` raises.
    """

    def __init__(
        self,
        model: Encoder | str | os.PathLike[str],
        function: str,
        *,
        chunks: ChunkRule = "sentence",
        chunk_tokens: int | None = 256,
        chunk_overlap: int = 0,
        task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
    ) -> None:
        self.encoder = opened(model, Encoder, function)
        self._chunks = chunks
        self._chunk_tokens = chunk_tokens
        self._chunk_overlap = chunk_overlap
        self._task = task
        self._truncate_dim = truncate_dim
        self._normalize_embeddings = normalize_embeddings
        self.split(["a text"])  # a mistake in the options is said here

    def split(self, documents: Sequence[str]) -> list[list[LateChunk]]:
        """For each document its chunks, in order."""
        found = self.encoder.encode_chunks(
            documents,
            chunks=self._chunks,
            chunk_tokens=self._chunk_tokens,
            chunk_overlap=self._chunk_overlap,
            task=self._task,
            truncate_dim=self._truncate_dim,
            normalize_embeddings=self._normalize_embeddings,
            drop_empty=True,
            show_progress_bar=False,
        )
        assert isinstance(found, list)
        return [
            [
                LateChunk(text, int(start), int(end), vector)
                for text, (start, end), vector in zip(one.texts, one.spans, one.embeddings.tolist(), strict=True)
            ]
            for one in found
        ]
