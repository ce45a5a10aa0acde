"""multi_lora in plain NumPy, in the dtype of `x`."""

from __future__ import annotations

import numpy as np


def multi_lora(
    x: np.ndarray, lora_a: np.ndarray, lora_b: np.ndarray, lora_ids: np.ndarray, scaling: np.ndarray
) -> np.ndarray:
    """scaling[t] * lora_b[t] (lora_a[t] x[r]) for each row r with the adapter t; zeros for rows with none."""
    delta = np.zeros((len(x), lora_b.shape[1]), x.dtype)
    for adapter in range(len(lora_a)):
        rows = lora_ids == adapter
        delta[rows] = x.dtype.type(scaling[adapter]) * (x[rows] @ lora_a[adapter].T @ lora_b[adapter].T)
    return delta
