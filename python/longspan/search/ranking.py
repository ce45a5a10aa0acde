"""Search over segments: the nearest codes, then the candidates again with the float query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan import ops
from longspan.ops.hamming import topk_of_ranked
from longspan.search.ids import wanted_bits
from longspan.search.rows import CodeSegment
from longspan.vectors.arrays import FloatArray, Int32Array, IntArray
from longspan.vectors.tables import Tabular, ranking_columns, ranking_line

_MAX_GATHERED_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult(Tabular):
    """The best of each query, best first; (k,) arrays for one query, (num_queries, k) for several.

    Attributes:
        ids: int64.
        distances: int32, bits that differ.
        scores: f32, higher is better; None where nothing was rescored.

    As a table: query and rank, both from 0, id, distance and, where there are any, score.
    """

    ids: IntArray
    distances: Int32Array
    scores: FloatArray | None

    def __repr__(self) -> str:
        if self.scores is None:
            return ranking_line(type(self).__name__, self.ids, self.distances, score="distance")
        return ranking_line(type(self).__name__, self.ids, self.scores)

    def _columns(self) -> dict[str, np.ndarray]:
        return ranking_columns(self.ids, distance=self.distances, score=self.scores)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RescoredResult(SearchResult):
    """A `SearchResult` that has scores.

    Attributes:
        scores: f32, higher is better.
    """

    scores: FloatArray


@dataclass(frozen=True, slots=True)
class Candidates:
    """Found rows, all (num_queries, k)."""

    distances: np.ndarray  # int32
    ids: np.ndarray  # int64
    segments: np.ndarray  # int64 number of the segment
    rows: np.ndarray  # int64 row in it

    def take(self, order: np.ndarray) -> Candidates:
        """Rearranged, each query by its row of `order`."""
        columns = (self.distances, self.ids, self.segments, self.rows)
        return Candidates(*(np.take_along_axis(column, order, axis=1) for column in columns))


def nearest(segments: Sequence[CodeSegment], codes: np.ndarray, k: int, filter: np.ndarray | None) -> Candidates:
    """The k least by (distance, id) over all segments; fewer columns where there are fewer rows."""
    found = [_nearest_in(segment, number, codes, k, filter) for number, segment in enumerate(segments) if len(segment)]
    if not found:
        none = np.zeros((len(codes), 0), np.int64)
        return Candidates(none.astype(np.int32), none, none, none)
    if len(found) == 1:
        return found[0]
    names = ("distances", "ids", "segments", "rows")
    joined = Candidates(*(np.concatenate([getattr(part, name) for part in found], axis=1) for name in names))
    return joined.take(np.lexsort((joined.ids, joined.distances), axis=-1)[:, :k])


def _nearest_in(segment: CodeSegment, number: int, codes: np.ndarray, k: int, filter: np.ndarray | None) -> Candidates:
    segment.verify("codes")
    k, wanted = min(k, len(segment)), wanted_bits(segment, filter)
    tie_ranks = None if segment.is_ascending else segment.id_ranks()
    distances, rows = topk_of_ranked(codes, segment.rows.codes, k, filter=wanted, tie_ranks=tie_ranks)
    found = np.asarray(rows) if segment.is_ascending else segment.id_order()[np.asarray(rows)]
    segment.verify("ids", found)
    return Candidates(np.asarray(distances), segment.rows.ids[found], np.full(found.shape, number), found)


def rescored(
    segments: Sequence[CodeSegment], queries: np.ndarray, candidates: Candidates, k: int
) -> tuple[np.ndarray, Candidates]:
    """The k best candidates of each query by (score falling, id rising), and their scores (num_queries, k) f32.

    Float and int8 vectors are scored by their dot product with the query, codes by the asymmetric one.
    """
    num_queries, m = candidates.rows.shape
    if num_queries == 0 or m == 0:
        return np.zeros((num_queries, min(k, m)), np.float32), candidates.take(np.zeros((num_queries, 0), np.int64))
    document = segments[0].rows.vectors if segments[0].rows.vectors is not None else segments[0].rows.codes
    step = max(1, _MAX_GATHERED_BYTES // (m * document.shape[1] * document.itemsize))
    scores = np.concatenate(
        [_scores(segments, queries, candidates, slice(at, at + step)) for at in range(0, num_queries, step)]
    )
    order = np.lexsort((candidates.ids, -scores), axis=-1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), candidates.take(order)


def _scores(segments: Sequence[CodeSegment], queries: np.ndarray, candidates: Candidates, part: slice) -> np.ndarray:
    """(queries of the part, m) f32, in the candidates' order."""
    numbers, rows = candidates.segments[part], candidates.rows[part]
    documents, scales = _gather(segments, numbers.reshape(-1), rows.reshape(-1))
    places = np.arange(rows.size, dtype=np.int64).reshape(rows.shape)
    ranked, found = ops.rescore(queries[part], places, documents, scales=scales)
    scores = np.empty(rows.size, np.float32)
    scores[np.asarray(found)] = np.asarray(ranked)
    return scores.reshape(rows.shape)


def _gather(
    segments: Sequence[CodeSegment], numbers: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """What the candidates are scored with, one row each: vectors and scales, or codes."""
    column = "codes" if segments[0].rows.vectors is None else "vectors"
    first = segments[0].rows.columns()[column]
    documents = np.empty((len(rows), first.shape[1]), first.dtype)
    scales = None if segments[0].rows.scales is None else np.empty(len(rows), np.float32)
    for number, segment in enumerate(segments):
        places = np.flatnonzero(numbers == number)
        wanted = rows[places]
        segment.verify(column, wanted)
        documents[places] = segment.rows.columns()[column][wanted]
        if scales is not None:
            segment.verify("scales", wanted)
            scales[places] = segment.rows.columns()["scales"][wanted]
    return documents, scales
