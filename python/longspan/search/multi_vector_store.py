"""MultiVectorStore: token vectors of documents on the disk, of which ranking reads those it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longspan.arguments import names_arguments
from longspan.ops.maxsim_tokens import Int8Tokens, Tokens
from longspan.search.ids import Owner, check_filter, check_ids, fresh_ids
from longspan.search.late_interaction import Ranked, TokenArrays, checked_top_k, token_arrays
from longspan.search.saved_index import SavedIndex
from longspan.search.segment import Segment, rises
from longspan.search.token_ranking import PackedQueries, best_first, score_rows, search
from longspan.search.token_rows import (
    TOKEN_STORES,
    TOKENS,
    TokenRows,
    TokenSegment,
    TokenState,
    TokenStore,
    concatenate,
    live,
    spans,
    stored,
    with_joined_tail,
)
from longspan.vectors.arrays import FloatArray, IntArray
from longspan.vectors.origin import Origin, check_added, check_asked
from longspan.vectors.tables import ScoredIds

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds.

    Attributes:
        documents: without the deleted.
        deleted: documents that were deleted and not yet dropped.
        tokens: vectors of all documents, with those of the deleted.
        dim: dimensions of a vector.
        store: what a vector has become.
        token_bytes: of one token.
    """

    documents: int
    deleted: int
    tokens: int
    dim: int
    store: TokenStore
    token_bytes: int


class StoreResult(ScoredIds):
    """The best documents of each query, best first; (k,) arrays for one query, (num_queries, k) for several.

    Attributes:
        ids: int64.
        scores: f32, higher is better.

    As a table: query and rank, both from 0, id and score.
    """

    __slots__ = ()


@names_arguments
class MultiVectorStore(SavedIndex[TokenState, TokenRows]):
    """Token vectors of documents, in memory until they are saved, then in mapped files.

    Scores are MaxSim: for each token of the query its best dot product with one of the document's, summed. Order: score
    falling, then id rising. Any number of threads may rank and search while one adds, deletes or saves: each call sees
    the store as it was when the call began. Writers wait for each other.
    """

    _OWNER = Owner("MultiVectorStore", "store")

    def __init__(self, dim: int, *, store: TokenStore = "float16") -> None:
        """An empty store.

        Args:
            dim: dimensions of the vectors, at least 1.
            store: what a vector becomes: "float16"; "int8", a byte a dimension and a scale a token; or "binary", a
                bit a dimension, set where the value is above 0 and worth +1, else -1 (dim a multiple of 8). Queries
                stay floats.
        Raises: ValueError, an argument breaks a line above.
        """
        if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool) or dim < 1:
            raise ValueError(f"MultiVectorStore: dim must be an integer of at least 1, got {dim!r}")
        if store not in TOKEN_STORES:
            raise ValueError(f"MultiVectorStore: store must be one of {', '.join(TOKEN_STORES)}, got {store!r}")
        if store == "binary" and dim % 8:
            raise ValueError(f"MultiVectorStore: dim must be a multiple of 8 for store 'binary', got {dim}")
        super().__init__()
        self.dim = int(dim)
        self.store: TokenStore = store

    def __repr__(self) -> str:
        return f"MultiVectorStore(dim={self.dim}, {len(self):,} documents, store={self.store!r})"

    def add(self, documents: TokenArrays, ids: np.ndarray | None = None, *, origin: Origin | None = None) -> IntArray:
        """Add documents; calls that begin after the return find them.

        Args:
            documents: for each (tokens, dim) of finite floats, at least one token; float16 takes none above 65504.
            ids: (n,) integers of 0 and above, none of them in the store or twice; None counts on from the highest.
            origin: `MultiVectorEncoder.origin` of the model that made them, which the store remembers; None is not
                checked.
        Returns: (n,) int64, the ids.
        Raises: TypeError or ValueError, an argument breaks a line above, or the store holds another model's; nothing is
            added then.
        """
        arrays = self._checked("add", "documents", documents)
        vectors = np.concatenate([np.zeros((0, self.dim), np.float32), *arrays])
        tokens, scales = stored(vectors, self.store)
        if tokens.dtype == np.float16 and not np.isfinite(tokens).all():
            raise ValueError("MultiVectorStore.add: a value is above 65504, float16's largest; use store='int8'")
        lengths = np.array([len(array) for array in arrays], np.int64)
        with self._lock:
            check_added("MultiVectorStore.add", self.origin, origin)
            new_ids = fresh_ids(self._OWNER, self._segments, self._next_id, ids, len(arrays))
            self.origin = self.origin or origin
            if len(arrays):
                base = _num_tokens(self._segments)
                rows = TokenRows(new_ids.copy(), base + np.cumsum(lengths), tokens, scales, base)
                self._segments = with_joined_tail((*self._segments, Segment(rows, is_ascending=rises(new_ids))))
                self._next_id = max(self._next_id, int(new_ids.max()) + 1)
        return new_ids

    def compact(self) -> None:
        """Drop deleted documents for good and join the rest, in memory; the next `save` writes all of it anew."""
        with self._lock:
            parts: list[TokenRows] = []
            for segment in self._segments:
                parts.append(live(segment, sum(len(part.tokens) for part in parts)))
            joined = [concatenate(parts)] if parts else []
            self._segments = tuple(Segment(rows, is_ascending=rises(rows.ids)) for rows in joined if len(rows.ids))
            self._forget_places()

    def rank(
        self,
        query: np.ndarray,
        candidates: np.ndarray | None = None,
        top_k: int = 10,
        *,
        origin: Origin | None = None,
    ) -> list[Ranked]:
        """The `top_k` best of some documents, best first; of their vectors alone anything is read.

        Args:
            query: (tokens, dim) of finite floats.
            candidates: (m,) integer ids, such as another search found, each of them in the store; one that stands
                twice counts once; None for all documents.
            top_k: 1 or more.
            origin: `MultiVectorEncoder.origin` of the model that made the query: an OriginWarning, if the store is of
                another.
        Returns: fewer than `top_k` where there are fewer candidates; `Ranked.document` is the id.
        Raises: TypeError or ValueError, an argument breaks a line above; IndexFileError, the files were altered.
        """
        count = checked_top_k("MultiVectorStore.rank", top_k)
        check_asked("MultiVectorStore.rank", self.origin, origin)
        if candidates is None:
            found = self.search([query], count)
            ids, scores = found.ids[0], found.scores[0]
        else:
            wanted = np.unique(check_ids(self._OWNER, "rank", candidates))
            all_scores = self._score("rank", [query], wanted)[0]
            order = best_first(all_scores, wanted, min(count, len(wanted)))
            ids, scores = wanted[order], all_scores[order]
        return [Ranked(document, score) for document, score in zip(ids.tolist(), scores.tolist(), strict=True)]

    def score(
        self, queries: TokenArrays, candidates: np.ndarray | None = None, *, origin: Origin | None = None
    ) -> FloatArray:
        """Scores of queries with documents.

        Args:
            queries: for each (tokens, dim) of finite floats; or one such array, for one query.
            candidates: (m,) integer ids, each of them in the store; None for all, in the order of `ids`.
            origin: as `rank`.
        Returns: (num_queries, m) f32.
        Raises: as `rank`.
        """
        check_asked("MultiVectorStore.score", self.origin, origin)
        wanted = None if candidates is None else check_ids(self._OWNER, "score", candidates)
        return self._score("score", queries, wanted)

    def search(
        self, queries: TokenArrays, k: int, *, filter: np.ndarray | None = None, origin: Origin | None = None
    ) -> StoreResult:
        """The k best documents of each query, all of which are scored, in bounded memory.

        Args:
            queries: for each (tokens, dim) of finite floats; or one such array, for one query.
            k: at least 1.
            filter: which ids may be found: (m,) integer ids, or (m,) bool, True at the ids that may; None for all.
            origin: as `rank`.
        Returns: `StoreResult`, with fewer than k columns where the store, or the filter, holds fewer documents.
        Raises: as `rank`.
        """
        check_asked("MultiVectorStore.search", self.origin, origin)
        packed, count = self._packed("search", queries), checked_top_k("MultiVectorStore.search", k, "k")
        ids, scores = search(self._segments, packed, count, check_filter(self._OWNER, filter))
        is_single = isinstance(queries, np.ndarray) and queries.ndim == 2
        return StoreResult(ids[0], scores[0]) if is_single else StoreResult(ids, scores)

    def vectors(self, id: int) -> FloatArray:
        """What the store holds of a document: (tokens, dim) f32, of sign bits +1 and -1.

        Raises: ValueError, there is no document of that id; IndexFileError, its part of the files is damaged.
        """
        wanted = check_ids(self._OWNER, "vectors", np.array([id]))
        for segment in self._segments:
            rows = segment.find(wanted)
            rows = rows[rows >= 0]
            if len(rows):
                [start], [stop] = spans(segment, rows)
                return _floats(segment.rows.vectors(int(start), int(stop)), self.store)
        raise ValueError(f"MultiVectorStore.vectors: there is no document {id}")

    def info(self) -> StoreInfo:
        """What the store holds."""
        segments = self._segments
        deleted = sum(segment.num_deleted for segment in segments)
        columns = TokenState(self.dim, self.store, 0).columns().values()
        return StoreInfo(
            documents=sum(map(len, segments)) - deleted,
            deleted=deleted,
            tokens=_num_tokens(segments),
            dim=self.dim,
            store=self.store,
            token_bytes=sum(column.row_bytes for column in columns if column.count == TOKENS),
        )

    @staticmethod
    def _kind() -> type[TokenState]:
        return TokenState

    def _state(self) -> TokenState:
        return TokenState(self.dim, self.store, self._next_id, self.origin)

    @classmethod
    def _empty(cls, state: TokenState) -> Self:
        store = cls(state.dim, store=state.store)
        store._next_id, store.origin = state.next_id, state.origin
        return store

    @staticmethod
    def _rows(columns: Mapping[str, np.ndarray]) -> TokenRows:
        return TokenRows.of(columns)

    def _score(self, method: str, queries: TokenArrays, ids: np.ndarray | None) -> np.ndarray:
        packed, segments = self._packed(method, queries), self._segments
        if ids is None:
            rows = [np.arange(len(segment))[segment.live_rows()] for segment in segments]
            parts = [score_rows(segment, packed, each) for segment, each in zip(segments, rows, strict=True)]
            return np.concatenate([np.zeros((len(packed), 0), np.float32), *parts], axis=1)
        scores, is_found = np.empty((len(packed), len(ids)), np.float32), np.zeros(len(ids), np.bool_)
        for segment in segments:
            found = segment.find(ids)
            is_here = found >= 0
            scores[:, is_here] = score_rows(segment, packed, found[is_here])
            is_found |= is_here
        if not is_found.all():
            raise ValueError(f"MultiVectorStore.{method}: id {ids[~is_found][0]} is not in the store")
        return scores

    def _packed(self, method: str, queries: TokenArrays) -> PackedQueries:
        arrays = self._checked(method, "queries", queries)
        tokens = np.concatenate([np.zeros((0, self.dim), np.float32), *arrays])
        return PackedQueries(tokens, np.cumsum([0, *map(len, arrays)]).astype(np.int32))

    def _checked(self, method: str, name: str, arrays: TokenArrays) -> list[np.ndarray]:
        """Each as (tokens, dim) f32."""
        caller = f"MultiVectorStore.{method}"
        checked = token_arrays(caller, name, arrays)
        for place, array in enumerate(checked):
            if array.shape[1] != self.dim:
                raise ValueError(f"{caller}: {name}[{place}] must have dim {self.dim}, got {array.shape[1]}")
            if not np.isfinite(array).all():
                raise ValueError(f"{caller}: {name}[{place}] must be finite")
        return checked


def _num_tokens(segments: Sequence[TokenSegment]) -> int:
    return sum(len(segment.rows.tokens) for segment in segments)


def _floats(tokens: Tokens, store: TokenStore) -> np.ndarray:
    if isinstance(tokens, Int8Tokens):
        return np.asarray(tokens.values, np.float32) * np.asarray(tokens.scales)[:, None]
    rows = np.asarray(tokens)
    if store == "binary":
        return 2 * np.unpackbits(rows, axis=1).astype(np.float32) - 1
    return rows.astype(np.float32)
