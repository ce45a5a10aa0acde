"""From token vectors to one vector a text."""

from __future__ import annotations

from typing import Final

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.spec import PoolingMode
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection, places

# The names in a Pooling module's config, and ours.
MODES: Final[dict[str, PoolingMode]] = {"mean": "mean", "cls": "cls", "lasttoken": "lasttoken"}


def pooling_mode(checkpoint: Checkpoint, default: PoolingMode) -> PoolingMode:
    """How the checkpoint's own files say to pool; `default` where they say nothing."""
    if checkpoint.pooling is None:
        return default
    modes = checkpoint.pooling_modes
    if len(modes) != 1 or modes[0] not in MODES:
        raise CheckpointError(
            f"{checkpoint.pooling.source}: pooling must be one of {', '.join(MODES)}, got {', '.join(modes) or 'none'}"
        )
    return MODES[modes[0]]


def select_pooled(batch: PackedBatch, mode: PoolingMode, keep: np.ndarray | None) -> Selection:
    """The tokens that `pool` reads for one vector a row; arrays of the host.

    Args:
        mode: mean over the row's tokens, its first token ("cls"), or its last.
        keep: (total_tokens,) bool, the tokens that a mean counts, or None for all.
    """
    rows = len(batch.indices)
    if mode == "cls":
        return Selection(rows, batch.cu_seqlens[:-1], by_row="first")
    if mode == "lasttoken":
        return Selection(rows, batch.cu_seqlens[1:] - 1, by_row="last")
    if keep is None:
        return Selection(rows)
    ends = np.cumsum(keep)[batch.cu_seqlens[1:] - 1]
    return Selection(rows, places(keep), np.concatenate([[0], ends]).astype(np.int32))


def pool(
    hidden: np.ndarray, batch: PackedBatch, selection: Selection, mode: PoolingMode, engine: OpsEngine
) -> np.ndarray:
    """One vector a row of the pack, (rows, dim), in new memory of the engine's.

    Args:
        hidden: (total_tokens, dim). It, `batch` and `selection` lie where `engine` computes.
        selection: `select_pooled` of the batch and `mode`; a row none of whose tokens a mean counts gives zeros.
    """
    rows = hidden if selection.tokens is None else hidden[selection.tokens]
    if mode != "mean":
        return rows
    return engine.pool_mean(rows, batch.cu_seqlens if selection.cu_seqlens is None else selection.cu_seqlens)


def after_prompt(special_mask: np.ndarray, num_prompt_tokens: int) -> np.ndarray:
    """(tokens,) bool, for `keep`: what follows the prompt, whose tokens come first of those that are not special."""
    after = np.ones(len(special_mask), bool)
    of_prompt = np.flatnonzero(~special_mask)[:num_prompt_tokens]
    after[: of_prompt[-1] + 1 if len(of_prompt) else 0] = False
    return after
