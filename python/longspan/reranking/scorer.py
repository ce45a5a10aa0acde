"""Pairs to logits: rows are made a block ahead, packed without padding, and go through encoder and head in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Final

import numpy as np

from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection
from longspan.pipeline.ahead import ahead
from longspan.pipeline.pipeline import Pipeline
from longspan.pipeline.pooling import select_pooled
from longspan.reranking.formats import Cut, PairFormat, Pairs, RowFormat
from longspan.reranking.head import Head, ModulesHead
from longspan.reranking.request import Lists, Request, Scored
from longspan.reranking.windows import best_windows, longest_query, window_rows
from longspan.text.pairs import PairRow
from longspan.text.tokenizer import UNCUT

PAIRS_PER_BLOCK: Final = 4096  # tokenized together: it bounds memory, and gives the packing pairs of like length


class PairScorer:
    """A model that scores each pair by itself. A pair's logits do not depend on the others, on the CPU bit for bit.

    Args:
        default_length: tokens of a row where the caller sets no limit.
        max_length: the most that the model's positions allow.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        head: Head | ModulesHead,
        row_format: RowFormat,
        *,
        default_length: int,
        max_length: int,
    ) -> None:
        self._pipeline = pipeline
        self._head = head
        self._format = row_format
        self._max_length = max_length - row_format.num_beside
        self._default_length = min(default_length, self._max_length)

    @property
    def cuts_left(self) -> bool:
        """Whether texts may be cut at their left end."""
        return isinstance(self._format, PairFormat)

    @property
    def num_labels(self) -> int:
        """Numbers that the model gives for a pair."""
        return self._head.num_labels

    def beside_document(self, query: str, instruction: str) -> int:
        """Tokens of a row that are not the document's, as `max_length` counts them."""
        [row] = self._format.rows([(self._before(instruction) + query, "")], Cut(UNCUT), instruction or None)
        return len(row.ids) - self._format.num_beside

    def _before(self, instruction: str) -> str:
        """What goes before a query, of a format that has no place of its own for it."""
        return "" if self._format.takes_instruction else instruction

    def score(self, lists: Lists, request: Request) -> Scored:
        """See `Scorer`."""
        before = self._before(request.instruction)
        pairs = [(before + query, document) for query, documents in lists for document in documents]
        least = self._format.num_fixed + 1
        limit = request.limit("max_length", request.max_length, self._default_length, least, self._max_length)
        query_limit = None
        if request.max_query_length is not None:
            if not self._format.cuts_queries:
                raise ValueError(
                    f"{request.caller}: max_query_length must be None for this model, whose prompt is cut at its end "
                    f"alone; pass max_length, or shorter queries"
                )
            query_limit = request.limit("max_query_length", request.max_query_length, 0, 1, limit)
        if request.truncation_side == "left" and not self.cuts_left:
            raise ValueError(f"{request.caller}: truncation_side must be 'right' or None for a model with a prompt")
        cut = Cut(limit, query_limit, request.truncation_side)
        losses = Losses(request.caller, len(pairs), _rule(cut, request))
        logits = np.empty((len(pairs), self.num_labels), np.float32)
        parts = [slice(start, start + PAIRS_PER_BLOCK) for start in range(0, len(pairs), PAIRS_PER_BLOCK)]
        blocks = ((part, self._rows(pairs[part], cut, request)) for part in parts)
        for part, (rows, owners) in ahead(blocks) if len(parts) > 1 else blocks:
            losses.count(rows, owners)
            of_rows = self._row_logits(rows, request, len(pairs[part]))
            logits[part] = of_rows if owners is None else best_windows(of_rows, owners)
        ends = np.cumsum([len(documents) for _, documents in lists])
        return Scored(np.split(logits, ends[:-1]) if lists else [], losses.text)

    def _rows(self, pairs: Pairs, cut: Cut, request: Request) -> tuple[list[PairRow], np.ndarray | None]:
        """The rows, and for windows the pair that each belongs to."""
        if request.long_documents == "cut":
            return self._format.rows(pairs, cut, request.instruction or None), None
        if not isinstance(self._format, PairFormat):
            raise ValueError(f"{request.caller}: windows are for models with a pair template; this one has a prompt")
        if cut.side is not None:
            raise ValueError(f"{request.caller}: with windows nothing of a document is cut; leave truncation_side out")
        if cut.max_query_length is not None and 2 * cut.max_query_length > cut.max_length:
            raise ValueError(
                f"{request.caller}: with windows max_length must be at least twice max_query_length "
                f"({cut.max_query_length}), got {cut.max_length}"
            )
        return window_rows(self._format, pairs, cut, request.overlap_tokens)

    def _row_logits(self, rows: Sequence[PairRow], request: Request, num_pairs: int | None = None) -> np.ndarray:
        """(rows, labels) f32, packed and run in one pass. Progress counts pairs, which have several windows each."""

        def select(batch: PackedBatch) -> Selection:
            return select_pooled(batch, self._head.pooling, None)

        logits = np.empty((len(rows), self.num_labels), np.float32)
        types = [row.types for row in rows if row.types is not None]
        results = self._pipeline.for_adapter(request.adapter).results(
            [row.ids for row in rows],
            self._head,
            select,
            batch_size=request.batch_size,
            batch_tokens=request.batch_tokens,
            types=types or None,
        )
        done = told = 0
        with closing(results):
            for batch, values in results:
                logits[batch.indices] = values
                done += len(batch.indices)
                now = done if num_pairs is None else done * num_pairs // len(rows)
                request.progress(now - told)
                told = now
        return logits


def _rule(cut: Cut, request: Request) -> str:
    """What a pair that was cut had."""
    if request.long_documents == "windows":
        return f"queries of more than {longest_query(cut)} tokens"
    of_query = "" if cut.max_query_length is None else f", or queries of more than {cut.max_query_length}"
    return f"more than {cut.max_length} tokens{of_query}"


class Losses:
    """What was cut of how many pairs, for one sentence about it."""

    def __init__(self, caller: str, total: int, rule: str) -> None:
        self._caller, self._total, self._rule = caller, total, rule
        self._pairs = self._query = self._document = 0
        self._more = False

    def count(self, rows: Sequence[PairRow], owners: np.ndarray | None) -> None:
        """Add what these rows lost; of a pair's windows the first counts, as all lost the same of the query."""
        for place, row in enumerate(rows):
            if owners is None or place == 0 or owners[place] != owners[place - 1]:
                self._pairs += row.lost_query + row.lost_document > 0
                self._query += row.lost_query
                self._document += row.lost_document
                self._more |= row.lost_more and row.lost_query + row.lost_document > 0

    @property
    def text(self) -> str | None:
        """The sentence; None if nothing was cut."""
        if not self._pairs:
            return None
        least = "at least " if self._more else ""
        return (
            f"{self._caller}: {self._pairs} of {self._total} pairs had {self._rule}; {least}"
            f"{self._query} tokens of queries and {self._document} of documents were left out"
        )
