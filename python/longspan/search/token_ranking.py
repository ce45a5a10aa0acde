"""MaxSim over a store's segments: given documents, which are read where they lie, or all of them, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan import ops
from longspan.search.ids import wanted_bits
from longspan.search.token_rows import TokenSegment, spans

_WINDOW_TOKENS: Final = (1 << 31) - 1  # offsets of the ops are int32
_WINDOW_BYTES: Final = 256 << 20  # of tokens that a search goes through at a time
_WINDOW_SCORES: Final = 4 << 20  # that it holds at a time where it cannot leave the choice to the op


@dataclass(frozen=True, slots=True)
class PackedQueries:
    """Token vectors of queries, one behind the other."""

    tokens: np.ndarray  # (total_q, dim) f32
    cu_seqlens: np.ndarray  # (num_queries + 1,) int32

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1


def score_rows(segment: TokenSegment, queries: PackedQueries, rows: np.ndarray) -> np.ndarray:
    """(num_queries, m) f32 scores of these documents, int64 rows of the segment, in any order, also twice."""
    risen, places = np.unique(rows, return_inverse=True)
    starts, stops = spans(segment, risen)
    scores = np.empty((len(queries), len(risen)), np.float32)
    first = 0
    while first < len(risen):
        # To the op the tokens between the wanted documents are documents too, which nobody asks about: so nothing is
        # copied, and what lies between is never read.
        last = int(np.searchsorted(stops, starts[first] + _WINDOW_TOKENS, side="right"))
        bounds = np.unique(np.concatenate([starts[first:last], stops[first:last]]))
        wanted = np.searchsorted(bounds, starts[first:last])
        pairs = np.empty((len(wanted), len(queries), 2), np.int32)
        pairs[..., 0], pairs[..., 1] = np.arange(len(queries)), wanted[:, None]
        found = ops.maxsim_pairs(
            queries.tokens,
            segment.rows.vectors(int(bounds[0]), int(bounds[-1])),
            queries.cu_seqlens,
            (bounds - bounds[0]).astype(np.int32),
            pairs.reshape(-1, 2),
        )
        scores[:, first:last] = np.asarray(found).reshape(len(wanted), len(queries)).T
        first = last
    return scores[:, places.reshape(-1)]


def best_first(scores: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    """(k,) places of the best of (n,) scores: score falling, then id rising."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        near = np.flatnonzero(scores >= least)
    else:
        near = np.arange(len(scores))
    return near[np.lexsort((ids[near], -scores[near]))[:k]]


def search(
    segments: Sequence[TokenSegment], queries: PackedQueries, k: int, filter: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """ids (num_queries, k) int64 and scores f32 of the best documents, all of which are scored; fewer if there are."""
    ids, scores = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    for segment in segments:
        bits = wanted_bits(segment, filter)
        is_wanted = None if bits is None else np.unpackbits(bits, count=len(segment)).astype(np.bool_)
        for first, last in _windows(segment, len(queries)):
            found = _best_in(segment, queries, k, (first, last), None if is_wanted is None else is_wanted[first:last])
            ids, scores = np.concatenate([ids, found[0]], axis=1), np.concatenate([scores, found[1]], axis=1)
            orders = [best_first(row, row_ids, min(k, ids.shape[1])) for row, row_ids in zip(scores, ids, strict=True)]
            order = np.array(orders, np.int64).reshape(len(queries), min(k, ids.shape[1]))
            ids, scores = np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return ids, scores


def _windows(segment: TokenSegment, num_queries: int) -> Iterator[tuple[int, int]]:
    """Runs of documents [first, last) that bound the memory a search takes."""
    segment.verify("ends")
    rows = segment.rows
    token_bytes = sum(column[:1].nbytes for column in (rows.tokens, rows.scales) if column is not None)
    tokens = min(_WINDOW_TOKENS, _WINDOW_BYTES // token_bytes)
    documents = max(1, _WINDOW_SCORES // max(1, num_queries))
    first, end = 0, rows.base
    while first < len(segment):
        fit = int(np.searchsorted(rows.ends, end + tokens, side="right"))
        last = min(max(first + 1, fit), first + documents, len(segment))
        yield first, last
        first, end = last, int(rows.ends[last - 1])


def _best_in(
    segment: TokenSegment, queries: PackedQueries, k: int, window: tuple[int, int], is_wanted: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """ids and scores (num_queries, up to k) of a window's best documents."""
    first, last = window
    rows = np.arange(first, last) if is_wanted is None else first + np.flatnonzero(is_wanted)
    k = min(k, len(rows))
    if k == 0:
        return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    if is_wanted is None and segment.is_ascending:  # the op's order, score and row, is ours
        starts, stops = spans(segment, rows)
        offsets = np.append(starts, stops[-1]) - starts[0]
        documents = segment.rows.vectors(int(starts[0]), int(stops[-1]))
        found = ops.maxsim_topk(queries.tokens, documents, queries.cu_seqlens, offsets.astype(np.int32), k)
        scores, best = np.asarray(found[0]), first + np.asarray(found[1])
    else:
        all_scores = score_rows(segment, queries, rows)
        segment.verify("ids", rows)
        places = np.array([best_first(row, segment.rows.ids[rows], k) for row in all_scores])
        scores, best = np.take_along_axis(all_scores, places, axis=1), rows[places]
    segment.verify("ids", best)
    return segment.rows.ids[best], scores
