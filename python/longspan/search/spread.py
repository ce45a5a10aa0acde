"""How an index's vectors spread: whether sign bits can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.search.rows import CodeSegment, Store

_SAMPLE: Final = 4096  # rows
# Vectors around zero have a short mean (sentence models: 0.1 to 0.5 of 1) and bits that are set in about half of the
# rows. In a narrow cone (e5: mean length 0.87 to 0.92) most bits are the same in all rows and say nothing.
NARROW_MEAN: Final = 0.7
POOR_BALANCE: Final = 0.5
FEW: Final = 64  # vectors whose mean says nothing of a cone: of n random ones it is about 1 / sqrt(n) long


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index holds, and whether its codes are good ones.

    Attributes:
        rows: documents, without the deleted.
        deleted: documents that were deleted and not yet dropped.
        dim: dimensions of a vector.
        code_bytes: bytes of a code.
        store: what rescoring uses.
        has_center_documents, has_center_queries: whether something is taken off before signs become bits.
        mean_length: of the documents' unit vectors' mean, 0 .. 1; None where only codes were added.
        bit_balance: 1: every bit is set in half of the rows, 0: in none or all; None for an empty index.
        advice: what is wrong with the codes and what to do, or None.
    """

    rows: int
    deleted: int
    dim: int
    code_bytes: int
    store: Store
    has_center_documents: bool
    has_center_queries: bool
    mean_length: float | None
    bit_balance: float | None
    advice: str | None


@dataclass(slots=True)
class MeanDirection:
    """A running mean of the directions of added vectors, of a sample of each batch."""

    total: np.ndarray  # (dim,) f64
    count: int = 0

    def add(self, vectors: np.ndarray) -> None:
        """Take rows of `vectors`, evenly spread."""
        sample = vectors[:: max(1, len(vectors) // _SAMPLE)].astype(np.float64)
        lengths = np.linalg.norm(sample, axis=1)
        self.total = self.total + (sample[lengths > 0] / lengths[lengths > 0, None]).sum(axis=0)
        self.count += int((lengths > 0).sum())

    @property
    def length(self) -> float | None:
        """0 where directions cancel out, 1 where they are all the same; None without a vector."""
        return float(np.linalg.norm(self.total) / self.count) if self.count else None


def bit_balance(segments: Sequence[CodeSegment], dim: int) -> float | None:
    """Mean of 4 p (1 - p) over the bits, p the share of a sample's rows where a bit is set."""
    total = sum(map(len, segments))
    if total == 0:
        return None
    step = max(1, total // _SAMPLE)
    sampled = []
    for segment in segments:
        rows = np.arange(0, len(segment), step)
        segment.verify("codes", rows)
        sampled.append(segment.rows.codes[rows])
    share = np.unpackbits(np.concatenate(sampled), axis=1, count=dim).mean(axis=0)
    return float((4 * share * (1 - share)).mean())


def advice(rows: int, mean_length: float | None, balance: float | None, *, is_centered: bool) -> str | None:
    """One sentence where plain codes would fail; None of few rows, too."""
    if balance is None or rows < FEW:
        return None
    if balance < POOR_BALANCE or (not is_centered and mean_length is not None and mean_length > NARROW_MEAN):
        length = "" if mean_length is None else f"mean vector {mean_length:.2f} of 1 long, "
        return (
            f"the vectors lie in a narrow cone ({length}bit balance {balance:.2f} of 1): most bits are the same for "
            "all documents; make the index with BinaryIndex.learn(documents, queries), which centres both sides"
        )
    return None
