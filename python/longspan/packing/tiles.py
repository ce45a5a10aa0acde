"""The tiles in which a GPU's attention takes a batch's rows, listed on the host, which knows the lengths: once a batch,
for all layers. Without a list each program of each layer would search the offsets for its sequence.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class TileList:
    """Tiles of the rows of a pack, each row its own key.

    Attributes:
        tiles: (n, 4) int32: a tile's first query and how many there are, its first key and how many. Negative is a
            group: whole sequences that lie next to each other, as many as fit, each of which sees itself alone.
            A tile of no queries is none.
        spans: (total, 2) int32, where each query's own sequence begins and ends; None without a group.
    """

    tiles: np.ndarray
    spans: np.ndarray | None


def list_tiles(cu_seqlens: np.ndarray, rows: int, *, count: int | None = None, groups: bool | None = None) -> TileList:
    """The tiles of up to `rows` queries, in the order of the pack.

    Args:
        cu_seqlens: (n + 1,) int32, never falling; empty sequences have no tile.
        count: as many entries as this, with tiles of no queries behind the others; None for as many as there are.
            `most_tiles` is always enough.
        groups: whether `spans` is there even without a group, or no sequences are grouped; None for what is there.
    """
    ends: list[int] = cu_seqlens.tolist()
    tiles: list[tuple[int, int, int, int]] = []
    place, last, has_group = 0, len(ends) - 1, False
    while place < last:
        start = ends[place]
        behind = place + 1 if groups is False else bisect_right(ends, start + rows, place + 1) - 1
        if behind <= place or groups is False:  # alone: longer than a tile, or not to be grouped
            end = ends[place + 1]
            tiles += [(first, min(rows, end - first), start, end - start) for first in range(start, end, rows)]
            place += 1
            continue
        total = ends[behind] - start
        if total > 0:
            is_group = ends[place + 1] - start < total
            has_group |= is_group
            tiles.append((start, total, start, -total if is_group else total))
        place = behind
    array = np.zeros((len(tiles) if count is None else count, 4), np.int32)
    if tiles:
        array[: len(tiles)] = tiles
    return TileList(array, _spans(cu_seqlens) if has_group or groups else None)


def most_tiles(total: int, num_sequences: int, rows: int) -> int:
    """Of any batch of that size."""
    return total // rows + num_sequences


def _spans(cu_seqlens: np.ndarray) -> np.ndarray:
    lengths = np.diff(cu_seqlens)
    pairs: np.ndarray = np.stack([cu_seqlens[:-1], cu_seqlens[1:]], axis=1)
    return np.repeat(pairs, lengths, axis=0)
