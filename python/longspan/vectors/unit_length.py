"""What is done to finished vectors on the host."""

from __future__ import annotations

from typing import Final

import numpy as np

SMALLEST_NORM: Final = 1e-12  # a shorter vector is divided by this: zeros stay zeros


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Each row of (rows, dim) divided by its length; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return vectors / np.maximum(lengths, vectors.dtype.type(SMALLEST_NORM))[:, None]
