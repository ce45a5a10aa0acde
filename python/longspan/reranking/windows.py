"""Documents longer than a row, as overlapping windows: the score of the best one is the document's.

Source: `rerank` of jina-reranker-v2's published code, for any model whose tokenizer has a template for pairs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from longspan.reranking.formats import Cut, PairFormat, Pairs
from longspan.text.pairs import PairRow, unique_ids

MAX_QUERY_LENGTH: Final = 512


def window_rows(row_format: PairFormat, pairs: Pairs, cut: Cut, overlap: int) -> tuple[list[PairRow], np.ndarray]:
    """Windows of exactly the room that a query leaves, and for each the place of its pair, which never fall. The last
    window of a document is moved back to be full.

    Args:
        cut: a query keeps `max_query_length` tokens at most, the special ones of a lone text included; None for
            MAX_QUERY_LENGTH, or half of `max_length` where that is less.
        overlap: tokens that neighbouring windows share, a quarter of the room at most.
    """
    tokenizer, template = row_format.tokenizer, row_format.template
    queries = unique_ids(tokenizer, (query for query, _ in pairs), "queries")
    documents = unique_ids(tokenizer, (document for _, document in pairs), "documents")
    longest = max(0, longest_query(cut) - tokenizer.num_special_tokens)
    rows: list[PairRow] = []
    owners: list[int] = []
    for place, (query_text, document_text) in enumerate(pairs):
        query, document = queries[query_text], documents[document_text]
        lost = max(0, len(query) - longest)
        query = query[:longest]
        room = cut.max_length - template.num_special - len(query)
        for start in window_starts(len(document), room, overlap):
            row = template.row(query, document[start : start + room], with_types=row_format.with_types)
            rows.append(replace(row, lost_query=lost) if lost else row)
            owners.append(place)
    return rows, np.array(owners, np.int64)


def longest_query(cut: Cut) -> int:
    """Tokens that a query keeps, the special ones of a lone text included."""
    return min(MAX_QUERY_LENGTH, cut.max_length // 2) if cut.max_query_length is None else cut.max_query_length


def window_starts(length: int, room: int, overlap: int) -> list[int]:
    """Where the windows of a text of `length` tokens start, `room` tokens each."""
    if length <= room:
        return [0]
    step = room - min(overlap, room // 4)
    return [*range(0, length - room, step), length - room]


def best_windows(logits: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """(pairs, labels) f32: the largest logits of each pair's windows, (windows, labels)."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    return np.maximum.reduceat(logits, starts) if len(owners) else logits
