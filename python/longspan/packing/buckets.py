"""Sizes up to which small batches are filled on a GPU, so that a pass captured once serves many of them.

Nothing here touches a device: filling is plain work on the host's arrays, and changes no result. What is added forms a
row of its own behind the batch's rows, and kernels keep rows apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

# From 32 tokens on, at most half as much again is computed in vain, where launching costs more than computing; beyond
# AT_ONCE at most a third.
SMALL: Final = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
TOKENS: Final = (*SMALL, 1280, 1536, 2048, 2560, 3072, 4096, 5120, 6144, 8192)
ROWS: Final = (1, 4, 16, 64, 256, 1024)  # coarse: an empty row costs a program that ends at once
AT_ONCE: Final = SMALL[-1]  # a larger pass is worth capturing only where its size comes again


@dataclass(frozen=True, slots=True)
class Bucket:
    """A size that batches are filled up to: `tokens` in all, and `rows` + 1 rows. What is left of the tokens is shared
    out among the rows behind the batch's own, at least one: attention costs the square of a row's length."""

    tokens: int
    rows: int


def bucket_for(tokens: int, rows: int) -> Bucket | None:
    """The smallest bucket for a batch of that size; None if it is larger than any."""
    if tokens > TOKENS[-1] or rows > ROWS[-1]:
        return None
    return Bucket(next(size for size in TOKENS if size >= tokens), next(size for size in ROWS if size >= rows))


def fill(values: np.ndarray, size: int, value: int = 0) -> np.ndarray:
    """(size,) of the dtype of `values`, which come first; `value` behind them."""
    filled = np.full(size, value, values.dtype)
    filled[: len(values)] = values
    return filled


def fill_offsets(cu_seqlens: np.ndarray, bucket: Bucket) -> np.ndarray:
    """(bucket.rows + 2,) int32: the offsets, then rows that share what is left of bucket.tokens evenly."""
    filled = fill(cu_seqlens, bucket.rows + 2)
    end, spare = int(cu_seqlens[-1]), bucket.rows + 2 - len(cu_seqlens)
    filled[len(cu_seqlens) :] = end + (bucket.tokens - end) * np.arange(1, spare + 1, dtype=np.int64) // spare
    return filled
