"""What the frameworks' reranking classes share: a query and texts in, places and scores out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from longspan.integrations import opened
from longspan.pipeline.options import OnTruncate
from longspan.reranker import RankOptions, Reranker

Activation = Literal["identity", "sigmoid"]


class TextReranking:
    """A Reranker that has been told how to rank.

    Args:
        model: a Reranker, or what it opens.
        function: the class that the user called, for messages.
        top_k: documents to keep; None for all.
        activation_fn, max_length, on_truncate: as `Reranker.predict`.
    Raises: TypeError, `model` is something else; ValueError, an option is wrong; and what `Reranker` raises; at once.
    """

    def __init__(
        self,
        model: Reranker | str | os.PathLike[str],
        function: str,
        *,
        top_k: int | None = None,
        activation_fn: Activation | None = None,
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
    ) -> None:
        self.reranker = opened(model, Reranker, function)
        self.top_k = top_k
        self._options: RankOptions = {"activation_fn": activation_fn, "max_length": max_length}
        self._options |= {"on_truncate": on_truncate, "show_progress_bar": False}
        self.rank("a", ["a"])  # a mistake in the options is said here, not with the first query

    def rank(self, query: str, texts: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """Places and scores, best first; `top_k` wins over the object's own."""
        kept = self.top_k if top_k is None else top_k
        ranking = self.reranker.rank(query, list(texts), kept, **self._options)
        return [(entry["corpus_id"], entry["score"]) for entry in ranking]
