"""binarize in plain NumPy, in the dtype of `x`."""

from __future__ import annotations

import numpy as np


def binarize(x: np.ndarray, *, thresholds: np.ndarray | None = None) -> np.ndarray:
    """One bit a value, set where x > threshold (0 where there are none), most significant bit first."""
    return np.packbits(x > (0 if thresholds is None else thresholds), axis=-1)
