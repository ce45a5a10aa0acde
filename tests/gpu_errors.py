"""How far results of a GPU's own instructions may be from the truth."""

from __future__ import annotations

import numpy as np

# What a GPU's own instructions may be off, in proportion: ex2.approx by the PTX manual; and the matrix units, which cut
# off the bits of a sum that lie below the last of f32 once for each 16 products.
EXP2, MATRIX_STEP = 2.0**-22, 2.0**-23


def matrix_sum(terms: int) -> float:
    """The error of a sum of `terms` products on the matrix units, in proportion to the sum of their magnitudes."""
    return (terms / 16 + 1) * MATRIX_STEP


def sums_error(truth: np.ndarray, native: np.ndarray) -> float:
    """What f32 arithmetic may be off: twice the largest error of the reference in f32."""
    return 2 * float(np.abs(native - truth).max(initial=0)) + 2.0**-23 * float(np.abs(truth).max(initial=0))
