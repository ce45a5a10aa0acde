"""Token ids of many texts, packed into batches without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from longspan.integers import checked_int
from longspan.packing.buckets import Bucket, fill, fill_offsets
from longspan.packing.tiles import list_tiles, most_tiles

INT32_MAX: Final = int(np.iinfo(np.int32).max)


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """Texts laid end to end, longest first; row r holds tokens cu_seqlens[r] to cu_seqlens[r + 1].

    Attributes:
        ids: (total_tokens,) int32.
        positions: (total_tokens,) int32, each token's place in its row, from 0.
        cu_seqlens: (rows + 1,) int32, from 0 to total_tokens, always rising.
        max_seqlen: tokens of the longest row.
        indices: (rows,) int64, each row's place in the caller's order.
        lora_ids: (total_tokens,) int32, each token's adapter, -1 for the base weights; None if there are no adapters.
        types: (total_tokens,) int32, each token's type, where the texts of a pair are told apart; None: type 0.
        adapter: the number in all of `lora_ids`; None if they differ or there are none.
        tile_rows: queries of a tile of attention, where an engine wants its tiles listed; 0 where it does not.
        groups_rows: whether a tile may hold several rows.
        tiles, spans: that list, as `longspan.packing.tiles` has it; None before an engine makes it.
    """

    ids: np.ndarray
    positions: np.ndarray
    cu_seqlens: np.ndarray
    max_seqlen: int
    indices: np.ndarray
    lora_ids: np.ndarray | None
    types: np.ndarray | None

    @property
    def fills(self) -> bool:
        """Whether `filled` knows how to fill this kind up."""
        return True

    @property
    def angles(self) -> tuple[np.ndarray, np.ndarray] | None:
        """cos and sin, (total_tokens, angles) f32 each, of RoPE's angles where places do not say them; else None."""
        return None

    def offsets(self, is_windowed: bool) -> np.ndarray:
        """(sequences + 1,) int32: which tokens see each other in a layer."""
        return self.cu_seqlens

    adapter: int | None = field(default=None, kw_only=True)
    tile_rows: int = field(default=0, kw_only=True)
    groups_rows: bool = field(default=False, kw_only=True)
    tiles: np.ndarray | None = field(default=None, kw_only=True)
    spans: np.ndarray | None = field(default=None, kw_only=True)

    def tiled(self, *, fixed_size: bool) -> PackedBatch:
        """With its tiles listed, where they are wanted. Batches of one size have lists of one size if that is fixed."""
        if self.tile_rows == 0:
            return self
        if fixed_size:
            most = most_tiles(len(self.ids), len(self.cu_seqlens) - 1, self.tile_rows)
            listed = list_tiles(self.cu_seqlens, self.tile_rows, count=most, groups=self.groups_rows)
        else:
            listed = list_tiles(self.cu_seqlens, self.tile_rows, groups=None if self.groups_rows else False)
        return replace(self, tiles=listed.tiles, spans=listed.spans)

    def filled(self, bucket: Bucket) -> PackedBatch:
        """The same batch with tokens added up to the bucket's size: all of id 0, at position 0, without an adapter."""
        return replace(
            self,
            ids=fill(self.ids, bucket.tokens),
            positions=fill(self.positions, bucket.tokens),
            cu_seqlens=fill_offsets(self.cu_seqlens, bucket),
            max_seqlen=bucket.tokens,
            lora_ids=None if self.lora_ids is None else fill(self.lora_ids, bucket.tokens, -1),
            types=None if self.types is None else fill(self.types, bucket.tokens),
        )


def pack(
    ids: Sequence[np.ndarray],
    *,
    batch_tokens: int,
    batch_size: int | None = None,
    lora_ids: Sequence[int] | None = None,
    types: Sequence[np.ndarray] | None = None,
) -> Iterator[PackedBatch]:
    """Batches that hold every text exactly once, longest texts first, ties in the caller's order.

    Longest first, because the first batch then shows whether memory suffices, and neighbours have like lengths.

    Args:
        ids: one (tokens,) array of integers a text, at least one token each.
        batch_tokens: a batch holds at most this many tokens, unless one text alone has more.
        batch_size: and at most this many texts; None for any number.
        lora_ids: each text's adapter, -1 for the base weights; None if there are no adapters.
        types: for each text the (tokens,) types of its tokens, 0 or more; None if all are of type 0.
    Returns: an iterator that packs a batch when asked for it; arguments are checked before, by the call itself.
    Raises: TypeError or ValueError, an argument breaks a line above, or a number does not fit int32.
    """
    batch_tokens = _checked_count("batch_tokens", batch_tokens)
    batch_size = len(ids) if batch_size is None else _checked_count("batch_size", batch_size)
    rows = [_checked_row(index, row) for index, row in enumerate(ids)]
    adapters = None if lora_ids is None else _checked_adapters(lora_ids, len(rows))
    if types is not None:
        _check_types(types, rows)
    return _batches(rows, batch_tokens, batch_size, adapters, types)


def _batches(
    rows: list[np.ndarray],
    batch_tokens: int,
    batch_size: int,
    adapters: np.ndarray | None,
    types: Sequence[np.ndarray] | None,
) -> Iterator[PackedBatch]:
    lengths = np.array([len(row) for row in rows], np.int64)
    order = np.argsort(-lengths, kind="stable")
    start = total = 0
    for place, index in enumerate(order):
        if place > start and (total + lengths[index] > batch_tokens or place - start == batch_size):
            yield _packed(rows, order[start:place], adapters, types)
            start, total = place, 0
        total += int(lengths[index])
    if rows:
        yield _packed(rows, order[start:], adapters, types)


def _packed(
    rows: list[np.ndarray],
    indices: np.ndarray,
    adapters: np.ndarray | None,
    types: Sequence[np.ndarray] | None,
) -> PackedBatch:
    chosen = [rows[index] for index in indices]
    lengths = np.array([len(row) for row in chosen])
    cu_seqlens = np.zeros(len(chosen) + 1, np.int32)
    np.cumsum(lengths, out=cu_seqlens[1:])
    own = None if adapters is None else adapters[indices]
    return PackedBatch(
        ids=np.concatenate(chosen).astype(np.int32, copy=False),
        positions=np.arange(cu_seqlens[-1], dtype=np.int32) - np.repeat(cu_seqlens[:-1], lengths),
        cu_seqlens=cu_seqlens,
        max_seqlen=int(lengths.max()),
        indices=indices,
        lora_ids=None if own is None else np.repeat(own, lengths),
        types=None if types is None else np.concatenate([types[index] for index in indices]).astype(np.int32),
        adapter=None if own is None or (own != own[0]).any() else int(own[0]),
    )


def _checked_count(name: str, value: int) -> int:
    count = checked_int(f"pack: {name}", value)
    if not 1 <= count <= INT32_MAX:
        raise ValueError(f"pack: {name} must be from 1 to {INT32_MAX}, got {count}")
    return count


def _checked_row(index: int, row: np.ndarray) -> np.ndarray:
    """`row` if its length and every id fit int32."""
    if not isinstance(row, np.ndarray) or row.dtype.kind not in "iu":
        got = row.dtype if isinstance(row, np.ndarray) else type(row).__name__
        raise TypeError(f"pack: ids[{index}] must be an array of integers, got {got}")
    if row.ndim != 1 or not 1 <= len(row) <= INT32_MAX:
        raise ValueError(f"pack: ids[{index}] must be 1 to {INT32_MAX} tokens on one axis, got {row.shape}")
    if row.dtype != np.int32 and not (row.min() >= 0 and row.max() <= INT32_MAX):
        raise ValueError(f"pack: ids[{index}] must be from 0 to {INT32_MAX}, got {row.min()} to {row.max()}")
    return row


def _checked_adapters(lora_ids: Sequence[int], num_texts: int) -> np.ndarray:
    if len(lora_ids) != num_texts:
        raise ValueError(f"pack: lora_ids must have one number for each of {num_texts} texts, got {len(lora_ids)}")
    for index, lora_id in enumerate(lora_ids):
        if not isinstance(lora_id, (int, np.integer)) or not -1 <= lora_id <= INT32_MAX:
            raise ValueError(f"pack: lora_ids[{index}] must be an adapter's number, or -1 for none, got {lora_id!r}")
    return np.array(lora_ids, np.int32)


def _check_types(types: Sequence[np.ndarray], rows: list[np.ndarray]) -> None:
    if len(types) != len(rows):
        raise ValueError(f"pack: types must have one array for each of {len(rows)} texts, got {len(types)}")
    for index, (own, row) in enumerate(zip(types, rows, strict=True)):
        if own.dtype.kind not in "iu" or own.shape != row.shape:
            raise ValueError(
                f"pack: types[{index}] must be {len(row)} integers, one a token, got {own.shape} of {own.dtype}"
            )
