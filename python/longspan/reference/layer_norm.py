"""layer_norm and rms_norm in plain NumPy, in the dtype of `x`."""

from __future__ import annotations

import numpy as np


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, eps: float, residual: np.ndarray | None = None
) -> np.ndarray:
    """(z - mean(z)) / sqrt(var(z) + eps) * weight + bias, z = x + residual, over the last axis."""
    z = x if residual is None else x + residual
    centred = z - z.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + z.dtype.type(eps)) * weight
    return normed if bias is None else normed + bias


def rms_norm(x: np.ndarray, weight: np.ndarray, *, eps: float, residual: np.ndarray | None = None) -> np.ndarray:
    """z / sqrt(mean(z^2) + eps) * weight, z = x + residual, over the last axis."""
    z = x if residual is None else x + residual
    return z / np.sqrt(np.square(z).mean(axis=-1, keepdims=True) + z.dtype.type(eps)) * weight
