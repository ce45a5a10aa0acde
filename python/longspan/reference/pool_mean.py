"""pool_mean in plain NumPy, in the dtype of `hidden`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def pool_mean(hidden: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
    """(rows, dim): the mean of each sequence's rows of `hidden` (total_tokens, dim); zeros for an empty one."""
    out = np.zeros((len(cu_seqlens) - 1, hidden.shape[1]), hidden.dtype)
    for row, (start, end) in enumerate(pairwise(cu_seqlens)):
        if end > start:
            out[row] = hidden[start:end].mean(axis=0)
    return out
