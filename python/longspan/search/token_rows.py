"""Rows of a multi-vector store in memory or in mapped files: documents, and the vectors of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeGuard, get_args

import numpy as np

from longspan import ops
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import IndexFileError
from longspan.ops.maxsim_tokens import Int8Tokens, Tokens
from longspan.search.header import Column, read_dim, read_next_id, read_origin
from longspan.search.segment import Segment, deleted_bits, is_ascending
from longspan.vectors.origin import Origin

TokenStore = Literal["float16", "int8", "binary"]
TOKEN_STORES: Final[tuple[TokenStore, ...]] = get_args(TokenStore)
TOKENS: Final = "tokens"  # the header's count of them


def is_token_store(name: str) -> TypeGuard[TokenStore]:
    """Whether it is one of TOKEN_STORES."""
    return name in TOKEN_STORES


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Columns of n documents, some after others of the store, and of their tokens."""

    ids: np.ndarray  # (n,) int64
    ends: np.ndarray  # (n,) int64, rising: tokens of the store up to the document's last one
    tokens: np.ndarray  # (total_tokens, dim) f16 | int8, or (total_tokens, dim / 8) uint8 sign bits
    scales: np.ndarray | None  # (total_tokens,) f32 with int8
    base: int  # tokens of the store before the first one here

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray], base: int = 0) -> TokenRows:
        """From what `columns` gives."""
        return cls(columns["ids"], columns["ends"], columns[TOKENS], columns.get("scales"), base)

    def columns(self) -> dict[str, np.ndarray]:
        """Those that are stored, by name."""
        named = {"ids": self.ids, "ends": self.ends, TOKENS: self.tokens, "scales": self.scales}
        return {name: column for name, column in named.items() if column is not None}

    def vectors(self, first: int, last: int) -> Tokens:
        """Tokens [first, last) as the ops take them: views."""
        part = self.tokens[first:last]
        return part if self.scales is None else Int8Tokens(part, self.scales[first:last])


TokenSegment = Segment[TokenRows]


@dataclass(frozen=True, slots=True)
class TokenState:
    """What a store's folder says of it beside its rows: as `header.State`."""

    FORMAT: ClassVar[str] = "longspan multi-vector store"

    dim: int
    store: TokenStore
    next_id: int
    origin: Origin | None = None

    def columns(self) -> dict[str, Column]:
        """Those of `TokenRows`."""
        width = self.dim // 8 if self.store == "binary" else self.dim
        dtype = np.dtype(np.uint8 if self.store == "binary" else self.store)
        due = {
            "ids": Column(np.dtype(np.int64), ()),
            "ends": Column(np.dtype(np.int64), ()),
            TOKENS: Column(dtype, (width,), TOKENS, is_scattered=True),
        }
        return due | (
            {"scales": Column(np.dtype(np.float32), (), TOKENS, is_scattered=True)} if self.store == "int8" else {}
        )

    def to_json(self) -> dict[str, object]:
        """What `from_json` takes."""
        origin = None if self.origin is None else self.origin.to_json()
        return {"dim": self.dim, "store": self.store, "next_id": self.next_id, "origin": origin}

    @classmethod
    def from_json(cls, body: JsonObject) -> TokenState:
        """Raises: IndexFileError, a field is not what `to_json` gives."""
        dim, store = read_dim(body), body.get_str("store")
        if not is_token_store(store) or (store == "binary" and dim % 8):
            raise IndexFileError(f"{body.source}: store {store!r} of dim {dim} is not one of a store")
        return cls(dim, store, read_next_id(body), read_origin(body))


def spans(segment: TokenSegment, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First token of each of these documents, and the one behind its last, as rows of the segment's tokens, checked.

    `rows` (m,) int64 rise. Nothing but what these documents need is read from a file.
    """
    before = np.maximum(rows - 1, 0)
    segment.verify("ends", np.concatenate([before, rows]))
    base, ends = segment.rows.base, segment.rows.ends
    starts, stops = np.where(rows > 0, ends[before], base) - base, ends[rows] - base
    if len(rows) and (
        (starts >= stops).any()
        or (starts[1:] < stops[:-1]).any()
        or starts[0] < 0
        or stops[-1] > len(segment.rows.tokens)
    ):
        raise IndexFileError(
            "the store's files contradict each other: documents overlap, or have no tokens; restore them"
        )
    for name in segment.rows.columns().keys() - {"ids", "ends"}:
        segment.verify_spans(name, starts, stops)
    return starts, stops


def stored(vectors: np.ndarray, store: TokenStore) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens and scales for `TokenRows`, of (total_tokens, dim) f32."""
    if store == "int8":
        coded = ops.to_int8(vectors)
        return coded.values, coded.scales
    if store == "binary":
        return np.asarray(ops.binarize(vectors)), None
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16)
    return halves, None


def live(segment: TokenSegment, base: int) -> TokenRows:
    """The documents that are not deleted, in memory, to stand behind `base` tokens of the store."""
    selected = segment.live_rows()
    rows = np.arange(len(segment)) if isinstance(selected, slice) else selected
    segment.verify("ids", rows)
    starts, stops = spans(segment, rows)
    lengths = stops - starts
    ends = np.cumsum(lengths)
    tokens = np.arange(lengths.sum()) + np.repeat(stops - ends, lengths)  # the documents' runs, end to end
    old = segment.rows
    scales = None if old.scales is None else old.scales[tokens]
    return TokenRows(old.ids[rows], base + ends, old.tokens[tokens], scales, base)


def concatenate(parts: Sequence[TokenRows]) -> TokenRows:
    """One after the other, at least one: each begins where the one before ends."""
    columns = [part.columns() for part in parts]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    return TokenRows.of(joined, parts[0].base)


def with_joined_tail(segments: tuple[TokenSegment, ...]) -> tuple[TokenSegment, ...]:
    """The same documents: the last segments, in memory, joined until each is far larger than the next.

    So few segments are left after any number of additions, and each document is copied a few times only.
    """
    while len(segments) > 1 and all(segment.checks is None for segment in segments[-2:]):
        pair = segments[-2:]
        large, small = (len(segment.rows.tokens) for segment in pair)
        if large > 2 * small:
            break
        count = sum(segment.num_deleted for segment in pair)
        joined = Segment(
            concatenate([segment.rows for segment in pair]),
            deleted_bits(pair) if count else None,
            num_deleted=count,
            is_ascending=is_ascending(pair),
        )
        segments = (*segments[:-2], joined)
    return segments
