"""BinaryIndex: exact search over binary codes, with rescoring, deletion, and a folder to live in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, overload

import numpy as np

from longspan import ops
from longspan.arguments import names_arguments
from longspan.search import exchange
from longspan.search.binary_state import BinaryState
from longspan.search.ids import Owner, check_filter, fresh_ids
from longspan.search.inputs import (
    at_least_1,
    check_center,
    check_codes,
    check_vectors,
    int8_levels,
    query_batch,
    sample_mean,
)
from longspan.search.ranking import RescoredResult, SearchResult, nearest, rescored
from longspan.search.rows import STORES, Rows, Store, concatenate
from longspan.search.saved_index import SavedIndex
from longspan.search.segment import Segment, rises
from longspan.search.spread import IndexInfo, MeanDirection, advice, bit_balance
from longspan.search.tail import Tail, live, live_blocks
from longspan.vectors.arrays import IntArray
from longspan.vectors.origin import Origin, check_added, check_asked

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_DIM: Final = 8 * 2_097_151  # what `ops.hamming` counts


@names_arguments
class BinaryIndex(SavedIndex[BinaryState, Rows]):
    """Codes of one bit a dimension, searched exactly; the best candidates are scored again with the float query.

    Order: Hamming distance, then id; after rescoring, score, then id. Any number of threads may search while one adds,
    deletes or saves: a search sees the index as it was when the search began. Writers wait for each other.
    """

    _OWNER = Owner("BinaryIndex", "index")
    _KEEPS_ROWS = True

    def __init__(
        self,
        dim: int,
        *,
        center_documents: np.ndarray | None = None,
        center_queries: np.ndarray | None = None,
        store: Store = "codes",
    ) -> None:
        """An empty index.

        Args:
            dim: dimensions of the vectors, from 1 to 16,777,208.
            center_documents: (dim,) floats taken off documents before their signs become bits, or None for none.
                Vectors in a narrow cone need it (see `info`); `learn` takes it from a sample.
            center_queries: the same for queries; None takes `center_documents`.
            store: what rescoring uses: "codes" nothing beside the bits; "int8" each vector in dim bytes and a scale;
                "float32" the vectors as they are.
        Raises: ValueError, an argument breaks a line above.
        """
        if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool) or not 1 <= dim <= MAX_DIM:
            raise ValueError(f"BinaryIndex: dim must be an integer from 1 to {MAX_DIM}, got {dim!r}")
        if store not in STORES:
            raise ValueError(f"BinaryIndex: store must be one of {', '.join(STORES)}, got {store!r}")
        super().__init__()
        self.dim = int(dim)
        self.store: Store = store
        self.center_documents = check_center("center_documents", center_documents, self.dim)
        self.center_queries = check_center("center_queries", center_queries, self.dim)
        self._tail = Tail(self.dim, store)
        self._direction = MeanDirection(np.zeros(self.dim))

    @classmethod
    def learn(cls, documents: np.ndarray, queries: np.ndarray | None = None, *, store: Store = "codes") -> BinaryIndex:
        """An empty index that centres each side on the mean of a sample: (n, dim) floats each; some thousands will do.

        Raises: ValueError, a sample is empty, or not (n, dim) of finite floats.
        """
        sample = check_vectors("documents", documents, None)
        means = [sample_mean("documents", sample)]
        means += [] if queries is None else [sample_mean("queries", check_vectors("queries", queries, sample.shape[1]))]
        return cls(sample.shape[1], center_documents=means[0], center_queries=means[-1], store=store)

    def __repr__(self) -> str:
        return f"BinaryIndex(dim={self.dim}, {len(self):,} documents, store={self.store!r})"

    def add(self, rows: np.ndarray, ids: np.ndarray | None = None, *, origin: Origin | None = None) -> IntArray:
        """Add documents; searches that begin after the return find them.

        Args:
            rows: (n, dim) finite floats; or, where `store` is "codes", (n, ceil(dim / 8)) uint8 codes, taken as they
                are: of an index with centres they must be of vectors that these were taken off.
            ids: (n,) integers of 0 and above, none of them in the index or twice; None counts on from the highest.
            origin: `Encoder.origin` of the model that made the rows, which the index remembers; None is not checked.
        Returns: (n,) int64, the ids.
        Raises: ValueError, an argument breaks a line above, or the index holds another model's; nothing is added then.
        """
        added = self._coded(rows)
        with self._lock:
            check_added("BinaryIndex.add", self.origin, origin)
            added.ids[:] = fresh_ids(self._OWNER, self._segments, self._next_id, ids, len(added))
            self._append(added)
            self.origin = self.origin or origin
            if rows.dtype != np.uint8:
                self._direction.add(rows)
        return added.ids

    def compact(self) -> None:
        """Drop deleted documents for good and join the segments, in memory; the next `save` writes all of it anew."""
        with self._lock:
            parts = [live(segment) for segment in self._segments]
            rows = concatenate(parts) if parts else Rows.empty(0, self.dim, self.store)
            self._tail.close()
            self._segments = (Segment(rows, is_ascending=rises(rows.ids)),) if len(rows) else ()
            self._forget_places()

    @overload
    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        rescore: Literal[True] = True,
        oversample: int = 4,
        filter: np.ndarray | None = None,
        origin: Origin | None = None,
    ) -> RescoredResult: ...

    @overload
    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        rescore: bool,
        oversample: int = 4,
        filter: np.ndarray | None = None,
        origin: Origin | None = None,
    ) -> SearchResult: ...

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        rescore: bool = True,
        oversample: int = 4,
        filter: np.ndarray | None = None,
        origin: Origin | None = None,
    ) -> SearchResult:
        """Find the k best documents of each query.

        Without rescoring: the k least by (Hamming distance, id). With it: of the k * oversample least, the k best by
        (score, id), where the score is <query, vector> for stored vectors, and <query - center_queries, s> for codes,
        s = +1 where a bit is set and -1 where not.

        Args:
            queries: (num_queries, dim) finite floats, or (dim,) for one; without rescoring also codes, uint8.
            k: at least 1.
            rescore: whether to score the candidates again.
            oversample: candidates for each result, at least 1.
            filter: which ids may be found: (m,) integer ids, or (m,) bool, True at the ids that may; None for all.
            origin: `Encoder.origin` of the model that made the queries: an OriginWarning, if the index is of another.
        Returns: `RescoredResult`, without rescoring `SearchResult`: with fewer than k columns where the index, or the
            filter, holds fewer documents.
        Raises: ValueError, an argument breaks a line above; IndexFileError, the index's files were altered.
        """
        k, oversample = at_least_1("k", k), at_least_1("oversample", oversample)
        check_asked("BinaryIndex.search", self.origin, origin)
        queries, is_single = query_batch(queries)
        is_coded = queries.dtype == np.uint8
        if is_coded and rescore:
            raise ValueError("BinaryIndex.search: queries are codes, which cannot be rescored; pass rescore=False")
        if not is_coded:
            queries = check_vectors("queries", queries, self.dim)
        center = self.center_queries if self.center_queries is not None else self.center_documents
        codes = (
            check_codes("queries", queries, self.dim)
            if is_coded
            else np.asarray(ops.binarize(queries, thresholds=center))
        )
        segments, allowed = self._segments, check_filter(self._OWNER, filter)
        found = nearest(segments, codes, k * oversample if rescore else k, allowed)
        if not rescore:
            ids, distances = (column[0] if is_single else column for column in (found.ids, found.distances))
            return SearchResult(ids, distances, None)
        centered = queries - center if center is not None and self.store == "codes" else queries
        scores, found = rescored(segments, centered, found, k)
        ids, distances, scores = (column[0] if is_single else column for column in (found.ids, found.distances, scores))
        return RescoredResult(ids, distances, scores)

    def info(self) -> IndexInfo:
        """What the index holds, and whether its vectors lie in a narrow cone, where plain codes fail."""
        segments = self._segments
        deleted = sum(segment.num_deleted for segment in segments)
        balance, length = bit_balance(segments, self.dim), self._direction.length
        return IndexInfo(
            rows=sum(map(len, segments)) - deleted,
            deleted=deleted,
            dim=self.dim,
            code_bytes=(self.dim + 7) // 8,
            store=self.store,
            has_center_documents=self.center_documents is not None,
            has_center_queries=self.center_queries is not None,
            mean_length=length,
            bit_balance=balance,
            advice=advice(sum(map(len, segments)), length, balance, is_centered=self.center_documents is not None),
        )

    @staticmethod
    def _kind() -> type[BinaryState]:
        return BinaryState

    def _state(self) -> BinaryState:
        return BinaryState(
            dim=self.dim,
            store=self.store,
            center_documents=self.center_documents,
            center_queries=self.center_queries,
            next_id=self._next_id,
            direction=replace(self._direction),
            origin=self.origin,
        )

    @classmethod
    def _empty(cls, state: BinaryState) -> Self:
        centers = {"center_documents": state.center_documents, "center_queries": state.center_queries}
        index = cls(state.dim, store=state.store, **centers)
        index._next_id, index._direction, index.origin = state.next_id, state.direction, state.origin
        return index

    @staticmethod
    def _rows(columns: Mapping[str, np.ndarray]) -> Rows:
        return Rows.of(columns)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the documents for other engines: .faiss (a FAISS binary index), .npz or .parquet, by the suffix.

        Raises: ValueError, the suffix is another, or dim is no multiple of 8 (.faiss); ImportError, .parquet without
            pyarrow.
        """
        segments = self._segments
        blocks = live_blocks(segments)
        centers = {"center_documents": self.center_documents, "center_queries": self.center_queries}
        exchange.write(Path(path), blocks, exchange.Kind(self.dim, self.store), centers)

    @classmethod
    def from_export(cls, path: str | os.PathLike[str]) -> BinaryIndex:
        """A new index from a file that `export` wrote, or FAISS (IndexBinaryFlat, also in an IndexBinaryIDMap).

        A .faiss file holds codes and ids alone: centres and stored vectors stay behind.

        Raises: ValueError, the suffix is none of `export`'s; IndexFileError, the file is damaged or of another kind.
        """
        kind, rows, centers = exchange.read(Path(path))
        index = cls(kind.dim, store=kind.store, **centers)
        rows.ids[:] = fresh_ids(cls._OWNER, (), 0, rows.ids, len(rows))
        index._append(rows)
        return index

    def _append(self, added: Rows) -> None:
        if len(added):
            self._segments = self._tail.append(self._segments, added)
            self._next_id = max(self._next_id, int(added.ids.max()) + 1)

    def _coded(self, rows: np.ndarray) -> Rows:
        """Rows to add, their ids still open."""
        if not isinstance(rows, np.ndarray):
            raise TypeError(f"BinaryIndex: rows must be a NumPy array, got {type(rows).__name__}")
        if rows.dtype == np.uint8:
            codes = check_codes("rows", rows, self.dim)
            if self.store != "codes":
                raise ValueError(f"BinaryIndex.add: an index that stores {self.store} vectors takes floats, not codes")
            return Rows(codes, np.empty(len(codes), np.int64), None, None)
        vectors = check_vectors("rows", rows, self.dim)
        codes = np.asarray(ops.binarize(vectors, thresholds=self.center_documents))
        ids = np.empty(len(codes), np.int64)
        if self.store == "int8":
            return Rows(codes, ids, *int8_levels(vectors))
        return Rows(codes, ids, vectors if self.store == "float32" else None, None)
