"""pool_logits in plain NumPy, in the dtype of `x`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from longspan.reference.linear import linear

TIMES = {None: 0, "log1p": 1, "log1p_twice": 2}


def pool_logits(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    cu_seqlens: np.ndarray,
    *,
    pooling: str = "max",
    saturation: str | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """The logits x weight^T + bias, saturated, then the largest of each sequence, or their sum in order."""
    with np.errstate(over="ignore", invalid="ignore"):
        logits = saturate(linear(x, weight, bias, dtype=dtype), saturation)
    start = -np.inf if pooling == "max" and saturation is None else 0
    out = np.full((len(cu_seqlens) - 1, len(weight)), start, logits.dtype)
    for row, (first, end) in enumerate(pairwise(cu_seqlens)):
        part = logits[first:end]
        if pooling == "sum":
            for token in part:
                out[row] += token
        elif len(part):
            out[row] = part.max(axis=0)
        out[row][~np.isfinite(part).all(axis=0)] = np.nan
    return out


def saturate(logits: np.ndarray, saturation: str | None) -> np.ndarray:
    """The logits; or log(1 + max(., 0)) of them, once or twice."""
    if TIMES[saturation]:
        logits = np.maximum(logits, 0)
    for _ in range(TIMES[saturation]):
        logits = np.log1p(logits)
    return logits
