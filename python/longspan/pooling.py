"""From token vectors to one vector a text."""

from __future__ import annotations

from typing import Final

import numpy as np

from longspan.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.engine import OpsEngine
from longspan.models.spec import PoolingMode

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


def pool(
    hidden: np.ndarray,
    cu_seqlens: np.ndarray,
    mode: PoolingMode,
    engine: OpsEngine,
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """One vector a row of the pack, (rows, dim), in new memory of the engine's.

    Args:
        hidden: (total_tokens, dim), where `engine` computes.
        cu_seqlens: (rows + 1,) int32; no row is empty.
        mode: mean over the row's tokens, its first token ("cls"), or its last.
        keep: (total_tokens,) bool, the tokens that a mean counts, or None for all; a row without any gives zeros.
    """
    if mode == "cls":
        return hidden[engine.place(cu_seqlens[:-1])]
    if mode == "lasttoken":
        return hidden[engine.place(cu_seqlens[1:] - 1)]
    if keep is not None:
        hidden = hidden[engine.place(np.flatnonzero(keep))]
        cu_seqlens = np.concatenate([[0], np.cumsum(keep)[cu_seqlens[1:] - 1]]).astype(np.int32)
    return engine.pool_mean(hidden, cu_seqlens)


def after_prompt(special_mask: np.ndarray, num_prompt_tokens: int) -> np.ndarray:
    """(tokens,) bool, for `keep`: what follows the prompt, whose tokens come first of those that are not special."""
    after = np.ones(len(special_mask), bool)
    of_prompt = np.flatnonzero(~special_mask)[:num_prompt_tokens]
    after[: of_prompt[-1] + 1 if len(of_prompt) else 0] = False
    return after
