"""From token vectors to one vector a text."""

from __future__ import annotations

from typing import Final, TypeAlias, get_args

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.spec import PoolingMode
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection, places

Pooling: TypeAlias = "PoolingMode | tuple[PoolingMode, ...]"  # several are joined, in their order
MODES: Final[tuple[PoolingMode, ...]] = get_args(PoolingMode)


def pooling_mode(checkpoint: Checkpoint, default: PoolingMode) -> Pooling:
    """How the checkpoint's own files say to pool; `default` where they say nothing."""
    if checkpoint.pooling is None:
        return default
    modes = tuple(mode for mode in MODES for said in checkpoint.pooling_modes if mode == said)
    modes = tuple(sorted(modes, key=checkpoint.pooling_modes.index))
    if not modes or len(modes) != len(checkpoint.pooling_modes):
        said = ", ".join(checkpoint.pooling_modes) or "none"
        raise CheckpointError(f"{checkpoint.pooling.source}: pooling must be of {', '.join(MODES)}, got {said}")
    return modes[0] if len(modes) == 1 else modes


def num_parts(pooling: Pooling) -> int:
    """Vectors that are joined to one."""
    return 1 if isinstance(pooling, str) else len(pooling)


def select_pooled(batch: PackedBatch, pooling: Pooling, keep: np.ndarray | None) -> Selection:
    """The tokens that `pool` reads for one vector a row; arrays of the host.

    Args:
        pooling: how to pool.
        keep: (total_tokens,) bool, the tokens that count, or None for all. The last token counts in any case.
    """
    rows = len(batch.indices)
    if pooling == "lasttoken":
        return Selection(rows, batch.cu_seqlens[1:] - 1, by_row="last")
    if keep is None:
        return Selection(rows, batch.cu_seqlens[:-1], by_row="first") if pooling == "cls" else Selection(rows)
    kept, ends = places(keep), np.cumsum(keep)[batch.cu_seqlens[1:] - 1]
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    if pooling == "cls":
        has_one = offsets[:-1] < offsets[1:]
        first = batch.cu_seqlens[:-1].copy()
        first[has_one] = kept[offsets[:-1][has_one]]
        return Selection(rows, first, by_row="first")
    return Selection(rows, kept, offsets)


def pool(
    hidden: np.ndarray, batch: PackedBatch, selection: Selection, pooling: Pooling, engine: OpsEngine
) -> np.ndarray:
    """One vector a row of the pack, (rows, dim), in new memory of the engine's; several poolings side by side.

    With h_1 .. h_n the tokens that count and p_i their places in the row, from 1: "mean" sum h_i / n,
    "mean_sqrt_len_tokens" sum h_i / sqrt(n), "weightedmean" sum p_i h_i / sum p_i, "max" the largest of each value,
    "cls" h_1, "lasttoken" the row's last token.

    Args:
        hidden: (total_tokens, dim). It, `batch` and `selection` lie where `engine` computes.
        selection: `select_pooled` of the batch and `pooling`; a row none of whose tokens counts gives zeros.
    Source: sentence-transformers' Pooling module.
    """
    rows = hidden if selection.tokens is None else hidden[selection.tokens]
    if pooling in ("cls", "lasttoken"):
        return rows
    offsets = batch.cu_seqlens if selection.cu_seqlens is None else selection.cu_seqlens
    if pooling == "mean":
        return engine.pool_mean(rows, offsets)
    positions = batch.positions if selection.tokens is None else batch.positions[selection.tokens]
    modes = (pooling,) if isinstance(pooling, str) else pooling
    parts = [_part(mode, hidden, batch, rows, offsets, positions, engine) for mode in modes]
    return parts[0] if len(parts) == 1 else engine.side_by_side(parts)


def _part(
    mode: PoolingMode,
    hidden: np.ndarray,
    batch: PackedBatch,
    rows: np.ndarray,
    offsets: np.ndarray,
    positions: np.ndarray,
    engine: OpsEngine,
) -> np.ndarray:
    if mode == "lasttoken":
        return hidden[batch.cu_seqlens[1:] - 1]
    if mode == "max":
        return engine.pool_max(rows, offsets)
    if mode == "cls":
        if not len(rows):
            return engine.pool_mean(rows, offsets)
        return rows[offsets[:-1].clip(0, len(rows) - 1)] * (offsets[1:] > offsets[:-1])[:, None]
    if mode == "weightedmean":
        weights = engine.floats(positions + 1)[:, None]
        means, mean_weights = engine.pool_mean(rows * weights, offsets), engine.pool_mean(weights, offsets)
        return means / (mean_weights + (mean_weights == 0))
    means = engine.pool_mean(rows, offsets)
    return means if mode == "mean" else means * engine.floats(offsets[1:] - offsets[:-1])[:, None] ** 0.5
