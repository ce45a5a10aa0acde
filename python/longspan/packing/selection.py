"""What of a batch's hidden states its results are made of: index arrays, made on the host beside the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from longspan.packing.batch import PackedBatch
from longspan.packing.buckets import Bucket, fill, fill_offsets


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Which tokens, in which groups. The arrays lie on the host, or after `OpsEngine.start` where the engine computes.

    Attributes:
        num_results: rows of the result; an engine may compute more behind them, and drops those.
        tokens: (n,) int32, these tokens alone, in this order; None for all.
        cu_seqlens: (rows + 1,) int32, which of `tokens` belong to which row; None for the batch's own.
        spans: (n, 2) int32, the runs of tokens whose means are wanted; None where rows are.
        by_row: `tokens` has one for each row: its "first" or its "last"; None where it has not.
    """

    num_results: int
    tokens: np.ndarray | None = None
    cu_seqlens: np.ndarray | None = None
    spans: np.ndarray | None = None
    by_row: Literal["first", "last"] | None = None

    @property
    def fills(self) -> bool:
        """Whether it can be filled up: a batch's size says nothing of how many spans there are."""
        return self.spans is None

    def filled(self, bucket: Bucket) -> Selection:
        """For a batch that was filled up to `bucket`; what is added selects the first token, and is dropped later."""
        size = bucket.rows + 1 if self.by_row else bucket.tokens
        return replace(
            self,
            tokens=None if self.tokens is None else fill(self.tokens, size),
            cu_seqlens=None if self.cu_seqlens is None else fill_offsets(self.cu_seqlens, bucket),
        )


def select_tokens(batch: PackedBatch, masks: Sequence[np.ndarray] | None = None) -> Selection:
    """Every token, or those that the rows' masks, (tokens,) bool each, keep."""
    if masks is None:
        return Selection(len(batch.ids))
    tokens = places(np.concatenate(masks))
    return Selection(len(tokens), tokens)


def places(mask: np.ndarray) -> np.ndarray:
    """(n,) int32: where a mask of tokens is true."""
    return np.flatnonzero(mask).astype(np.int32)
