"""SparseIndex: exact search by dot product over sparse vectors, in inverted lists that live in mapped files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longspan import _core
from longspan.arguments import names_arguments
from longspan.errors import IndexFileError
from longspan.search.header import MAX_DIM
from longspan.search.ids import Owner, check_filter, fresh_ids, wanted_bits
from longspan.search.posting_rows import (
    BLOCK_DOCS,
    LISTS,
    TABLES,
    Base,
    PostingRows,
    PostingSegment,
    SparseState,
    contradictions_told,
    full_blocks,
    live_blocks,
    with_joined_tail,
)
from longspan.search.saved_index import SavedIndex
from longspan.search.segment import Segment, rises
from longspan.vectors.arrays import IntArray
from longspan.vectors.origin import Origin, check_added, check_asked
from longspan.vectors.sparse import CsrLike, SparseInput, SparseVectors
from longspan.vectors.tables import ScoredIds

if TYPE_CHECKING:
    from typing_extensions import Self


class SparseResult(ScoredIds):
    """The best documents of each query, best first, (num_queries, k): id -1 and score 0 where there are no more.

    Attributes:
        ids: int64.
        scores: f32, higher is better.

    As a table: query and rank, both from 0, id and score.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SparseInfo:
    """What an index holds.

    Attributes:
        documents: without the deleted.
        deleted: documents that were deleted and not yet dropped.
        dim: dimensions of a vector.
        entries: values of all documents, with those of the deleted.
        blocks: of up to 65,536 documents each.
        nbytes: of all columns.
    """

    documents: int
    deleted: int
    dim: int
    entries: int
    blocks: int
    nbytes: int


@names_arguments
class SparseIndex(SavedIndex[SparseState, PostingRows]):
    """Sparse vectors with values above 0, such as SPLADE's, searched exactly by their dot product with a query.

    score = sum over the dimensions that both have, rising, of query * document, in float32
    Order: score falling, then id rising; documents without a dimension in common with the query are not found. A score
    has the same bits whatever else is in the index, on any number of threads, in memory and from files. Any number of
    threads may search while one adds, deletes or saves: a search sees the index as it was when it began. Writers wait
    for each other.
    """

    _OWNER = Owner("SparseIndex", "index")

    def __init__(self, dim: int) -> None:
        """An empty index.

        Args:
            dim: dimensions of the vectors, at least 1: the model's `SparseEncoder.dim`.
        Raises: ValueError, an argument breaks a line above.
        """
        if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool) or not 1 <= dim <= MAX_DIM:
            raise ValueError(f"SparseIndex: dim must be an integer from 1 to {MAX_DIM}, got {dim!r}")
        super().__init__()
        self.dim = int(dim)

    def __repr__(self) -> str:
        return f"SparseIndex(dim={self.dim}, {len(self):,} documents)"

    def add(self, documents: SparseInput, ids: np.ndarray | None = None, *, origin: Origin | None = None) -> IntArray:
        """Add documents; searches that begin after the return find them.

        Args:
            documents: what `SparseEncoder` gives, scipy's CSR, or for each document a dict from dimension to value;
                values above 0 (zeros are left out). A document without values is kept, and found by no query.
            ids: (n,) integers of 0 and above, none of them in the index or twice; None counts on from the highest.
            origin: `SparseEncoder.origin` of the model that made them, which the index remembers; None is not checked.
        Returns: (n,) int64, the ids.
        Raises: TypeError or ValueError, an argument breaks a line above, or the index holds another model's; nothing is
            added then.
        """
        vectors = self._checked("add", "documents", documents)
        with self._lock:
            new_ids = fresh_ids(self._OWNER, self._segments, self._next_id, ids, len(vectors))
            check_added("SparseIndex.add", self.origin, origin)
            segments = self._segments
            for first in range(0, len(vectors), BLOCK_DOCS):
                part = slice(first, first + BLOCK_DOCS)
                base = segments[-1].rows.end if segments else Base()
                rows = PostingRows.invert(vectors[part], new_ids[part].copy(), base)
                segments = with_joined_tail((*segments, Segment(rows, is_ascending=rises(rows.ids))), self.dim)
            self._segments = segments
            self.origin = self.origin or origin
            if len(new_ids):
                self._next_id = max(self._next_id, int(new_ids.max()) + 1)
        return new_ids

    def compact(self) -> None:
        """Drop deleted documents for good and join blocks that are not full, in memory; the next `save` writes all of
        it anew. Worth its time after many small saves: each leaves a block of its own."""
        with self._lock, contradictions_told(*self._segments):
            blocks = (block for segment in self._segments for block in live_blocks(segment, self.dim))
            segments: tuple[PostingSegment, ...] = ()
            for ids, vectors in full_blocks(blocks, self.dim):
                base = segments[-1].rows.end if segments else Base()
                segments += (Segment(PostingRows.invert(vectors, ids, base), is_ascending=rises(ids)),)
            self._segments = segments
            self._forget_places()

    def search(
        self, queries: SparseInput, k: int, *, filter: np.ndarray | None = None, origin: Origin | None = None
    ) -> SparseResult:
        """Find the k best documents of each query.

        Args:
            queries: as `documents` of `add`: one row a query, values of 0 and above.
            k: at least 1.
            filter: which ids may be found: (m,) integer ids, or (m,) bool, True at the ids that may; None for all.
            origin: `SparseEncoder.origin` of the model that made them: an OriginWarning, if the index is of another.
        Returns: `SparseResult`, with fewer than k columns where the index holds fewer documents.
        Raises: TypeError or ValueError, an argument breaks a line above; IndexFileError, the files were altered.
        """
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise ValueError(f"SparseIndex.search: k must be an integer of at least 1, got {k!r}")
        vectors = self._checked("search", "queries", queries)
        check_asked("SparseIndex.search", self.origin, origin)
        segments, allowed = self._segments, check_filter(self._OWNER, filter)
        columns = min(int(k), sum(len(segment) - segment.num_deleted for segment in segments))
        found = [_search_in(segment, vectors, columns, allowed) for segment in segments if len(segment)]
        if len(found) == 1:
            return found[0]
        none = np.zeros((len(vectors), 0))
        ids = np.concatenate([none.astype(np.int64), *(part.ids for part in found)], axis=1)
        scores = np.concatenate([none.astype(np.float32), *(part.scores for part in found)], axis=1)
        order = np.lexsort((ids, -scores), axis=-1)[:, :columns]
        return SparseResult(np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1))

    def info(self) -> SparseInfo:
        """What the index holds."""
        segments = self._segments
        deleted = sum(segment.num_deleted for segment in segments)
        return SparseInfo(
            documents=sum(map(len, segments)) - deleted,
            deleted=deleted,
            dim=self.dim,
            entries=sum(len(segment.rows.docs) for segment in segments),
            blocks=sum(len(segment.rows.docends) for segment in segments),
            nbytes=sum(column.nbytes for segment in segments for column in segment.rows.columns().values()),
        )

    @staticmethod
    def _kind() -> type[SparseState]:
        return SparseState

    def _state(self) -> SparseState:
        return SparseState(self.dim, self._next_id, self.origin)

    @classmethod
    def _empty(cls, state: SparseState) -> Self:
        index = cls(state.dim)
        index._next_id, index.origin = state.next_id, state.origin
        return index

    @staticmethod
    def _rows(columns: Mapping[str, np.ndarray]) -> PostingRows:
        return PostingRows.of(columns)

    def _checked(self, method: str, name: str, given: SparseInput) -> SparseVectors:
        """As the kernels take it, without zeros."""
        if isinstance(given, SparseVectors):
            vectors = given  # the kernels check its rows
        else:
            vectors = SparseVectors.of(given, None if isinstance(given, CsrLike) else self.dim)
        if vectors.dim != self.dim:
            raise ValueError(f"SparseIndex.{method}: {name} must have {self.dim} dimensions, got {vectors.dim}")
        offsets, indices = np.asarray(vectors.offsets, np.int64), np.asarray(vectors.indices, np.int32)
        values = np.asarray(vectors.values, np.float32)
        if not ((values >= 0) & np.isfinite(values)).all():
            entry = int(np.argmin((values >= 0) & np.isfinite(values)))
            row = int(np.searchsorted(offsets, entry, side="right")) - 1
            raise ValueError(
                f"SparseIndex.{method}: {name} must have finite values of 0 and above, {name}[{row}] has "
                f"{values[entry]}"
            )
        if (values == 0).any():
            kept = values > 0
            offsets = np.concatenate([[0], np.cumsum(kept)])[offsets]
            indices, values = indices[kept], values[kept]
        return SparseVectors(offsets, indices, values, self.dim)


def _search_in(segment: PostingSegment, queries: SparseVectors, k: int, allowed: np.ndarray | None) -> SparseResult:
    """The k best documents of one segment; reads no list but those of the queries' dimensions."""
    for name in TABLES:
        segment.verify(name)
    view = segment.rows.view()
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    wanted = wanted_bits(segment, allowed)
    ranks = None if segment.is_ascending else segment.id_ranks()
    try:
        with contradictions_told(segment):
            segment.rows.check_documents()
            if segment.checks is not None:
                starts, stops = _core.posting_lists(view, np.unique(queries.indices))
                if len(starts):
                    for name in LISTS:
                        segment.verify_spans(name, starts, stops)
            _core.postings_topk(view, queries.offsets, queries.indices, queries.values, wanted, ranks, scores, rows)
    except IndexFileError:
        SparseVectors.of(queries)  # what the caller made wrong is not the files' fault
        raise
    found = rows[rows >= 0]
    segment.verify("ids", found)
    return SparseResult(np.where(rows >= 0, segment.rows.ids[np.maximum(rows, 0)], -1), scores)
