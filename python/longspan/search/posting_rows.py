"""Documents of a sparse index in memory or in mapped files: blocks of inverted lists (csrc/postings/postings.h)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from longspan import _core
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import IndexFileError
from longspan.search.header import ROWS, Column, read_dim, read_next_id, read_origin
from longspan.search.segment import Segment, deleted_bits, is_ascending
from longspan.vectors.origin import Origin
from longspan.vectors.sparse import SparseVectors

BLOCK_DOCS: Final = 65536  # documents of a block at most: their numbers in it have 16 bits
TABLES: Final = ("docends", "termends", "terms", "ends", "peaks")  # small, and read whole
LISTS: Final = ("docs", "values")  # of which a search reads the lists of its terms


@dataclass(frozen=True, slots=True)
class Base:
    """What stands in the index before a segment."""

    docs: int = 0
    terms: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class PostingRows:
    """Columns of some blocks, one behind the other."""

    ids: np.ndarray  # (n,) int64
    docends: np.ndarray  # (blocks,) int64: documents of the index up to the block's last one
    termends: np.ndarray  # (blocks,) int64: terms up to its last one
    terms: np.ndarray  # (terms,) int32, rising within a block
    ends: np.ndarray  # (terms,) int64: entries up to the term's last one
    peaks: np.ndarray  # (terms,) f32: its highest weight in the block
    docs: np.ndarray  # (entries,) uint16: the document's place in its block
    values: np.ndarray  # (entries,) f32
    base: Base = Base()

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> PostingRows:
        """From what `columns` gives, as the first of an index."""
        tables = (columns[name] for name in TABLES)
        docends, termends, terms, ends, peaks = tables
        return cls(columns["ids"], docends, termends, terms, ends, peaks, columns["docs"], columns["values"])

    @classmethod
    def invert(cls, vectors: SparseVectors, ids: np.ndarray, base: Base) -> PostingRows:
        """One block, to stand behind `base`: of at most BLOCK_DOCS vectors, whose values are above 0."""
        terms, ends, peaks, docs, values = _core.invert(vectors.offsets, vectors.indices, vectors.values, vectors.dim)
        docends, termends = np.array([base.docs + len(ids)]), np.array([base.terms + len(terms)])
        return cls(ids, docends, termends, terms, base.entries + ends, peaks, docs, values, base)

    def columns(self) -> dict[str, np.ndarray]:
        """By name."""
        return {name: getattr(self, name) for name in ("ids", *TABLES, *LISTS)}

    @property
    def end(self) -> Base:
        """What stands before a segment behind this one."""
        base = self.base
        return Base(base.docs + len(self.ids), base.terms + len(self.terms), base.entries + len(self.docs))

    def check_documents(self) -> None:
        """ValueError if the blocks hold more documents than there are ids, or fewer."""
        count = int(self.docends[-1]) - self.base.docs if len(self.docends) else 0
        if count != len(self.ids):
            raise ValueError(f"postings: blocks hold {count} documents, but there are {len(self.ids)} ids")

    def view(self) -> tuple[object, ...]:
        """What the kernels take."""
        base = self.base
        return (*(getattr(self, name) for name in (*TABLES, *LISTS)), base.docs, base.terms, base.entries)

    def vectors(self, block: int, dim: int) -> tuple[np.ndarray, SparseVectors]:
        """The ids of a block's documents, and their vectors."""
        first = 0 if block == 0 else int(self.docends[block - 1]) - self.base.docs
        offsets, terms, values = _core.posting_rows(self.view(), block)
        ids = self.ids[first : int(self.docends[block]) - self.base.docs]
        return ids, SparseVectors(offsets, terms, values, dim)


PostingSegment = Segment[PostingRows]


@dataclass(frozen=True, slots=True)
class SparseState:
    """What an index's folder says of it beside its rows: as `header.State`."""

    FORMAT: ClassVar[str] = "longspan sparse index"

    dim: int
    next_id: int
    origin: Origin | None = None

    def columns(self) -> dict[str, Column]:
        """Those of `PostingRows`."""
        kinds: dict[str, tuple[type, str]] = {
            "ids": (np.int64, ROWS),
            "docends": (np.int64, "blocks"),
            "termends": (np.int64, "blocks"),
            "terms": (np.int32, "terms"),
            "ends": (np.int64, "terms"),
            "peaks": (np.float32, "terms"),
            "docs": (np.uint16, "entries"),
            "values": (np.float32, "entries"),
        }
        return {
            name: Column(np.dtype(dtype), (), count, is_scattered=name in LISTS)
            for name, (dtype, count) in kinds.items()
        }

    def to_json(self) -> dict[str, object]:
        """What `from_json` takes."""
        origin = None if self.origin is None else self.origin.to_json()
        return {"dim": self.dim, "next_id": self.next_id, "origin": origin}

    @classmethod
    def from_json(cls, body: JsonObject) -> SparseState:
        """Raises: IndexFileError, a field is not what `to_json` gives."""
        return cls(read_dim(body), read_next_id(body), read_origin(body))


@contextmanager
def contradictions_told(*segments: PostingSegment) -> Iterator[None]:
    """What the kernels refuse is the files' fault where a segment lies in files, whatever their checksums say."""
    try:
        yield
    except IndexFileError:
        raise
    except ValueError as error:
        if all(segment.checks is None for segment in segments):
            raise
        raise IndexFileError(f"the index's files contradict each other ({error}); restore them") from error


def live_blocks(segment: PostingSegment, dim: int) -> Iterator[tuple[np.ndarray, SparseVectors]]:
    """Ids and vectors of the documents that are not deleted, a block at a time, checked."""
    for name in segment.rows.columns():
        segment.verify(name)
    segment.rows.check_documents()
    first = 0
    for block in range(len(segment.rows.docends)):
        ids, vectors = segment.rows.vectors(block, dim)
        kept = np.flatnonzero(~segment.is_deleted(np.arange(first, first + len(ids))))
        first += len(ids)
        yield (ids, vectors) if len(kept) == len(ids) else (ids[kept], vectors.take(kept))


def with_joined_tail(segments: tuple[PostingSegment, ...], dim: int) -> tuple[PostingSegment, ...]:
    """The same documents: the last segments, in memory, joined until each is far larger than the next, or full.

    So few blocks are left after any number of additions, and each document is inverted a few times only.
    """
    while len(segments) > 1 and all(segment.checks is None for segment in segments[-2:]):
        pair = segments[-2:]
        large, small = map(len, pair)
        if large > 2 * small or large + small > BLOCK_DOCS:
            break
        segments = (*segments[:-2], joined(pair, dim))
    return segments


def joined(segments: Sequence[PostingSegment], dim: int) -> PostingSegment:
    """One block of all documents, the deleted as well: no more than a block has room for."""
    parts = [segment.rows.vectors(block, dim) for segment in segments for block in range(len(segment.rows.docends))]
    ids = np.concatenate([part for part, _ in parts])
    vectors = SparseVectors.joined([part for _, part in parts], dim)
    count = sum(segment.num_deleted for segment in segments)
    return Segment(
        PostingRows.invert(vectors, ids, segments[0].rows.base),
        deleted_bits(segments) if count else None,
        num_deleted=count,
        is_ascending=is_ascending(segments),
    )


def full_blocks(
    parts: Iterable[tuple[np.ndarray, SparseVectors]], dim: int
) -> Iterator[tuple[np.ndarray, SparseVectors]]:
    """The same documents, in order, as many to a part as a block has room for, but for the last one."""
    ids, waiting = np.zeros(0, np.int64), SparseVectors.joined([], dim)
    for more, vectors in parts:
        ids, waiting = np.concatenate([ids, more]), SparseVectors.joined([waiting, vectors], dim)
        while len(ids) >= BLOCK_DOCS:
            yield ids[:BLOCK_DOCS], waiting[:BLOCK_DOCS]
            ids, waiting = ids[BLOCK_DOCS:], waiting[BLOCK_DOCS:]
    if len(ids):
        yield ids, waiting
