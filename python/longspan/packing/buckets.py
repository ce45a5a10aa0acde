"""Sizes up to which small batches are filled on a GPU, so that a pass captured once serves many of them.

Nothing here touches a device: filling is plain work on the host's arrays, and changes no result. What is added forms a
row of its own behind the batch's rows, and kernels keep rows apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

# From 32 tokens on, at most half as much again is computed in vain: at these sizes launching costs more than computing.
TOKENS: Final = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
ROWS: Final = (1, 4, 16, 64)  # coarse: an empty row costs a program that ends at once


@dataclass(frozen=True, slots=True)
class Bucket:
    """A size that batches are filled up to: `tokens` in all, and `rows` + 1 rows, the last of which takes what is left
    of the tokens. Rows between a batch's own and the last are empty."""

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
    """(bucket.rows + 2,) int32: the offsets, then empty rows, then one that ends with the last of bucket.tokens."""
    filled = fill(cu_seqlens, bucket.rows + 2, int(cu_seqlens[-1]))
    filled[-1] = bucket.tokens
    return filled
