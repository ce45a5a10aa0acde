"""How far a kernel may be from the truth: at most `factor` times what the same maths in its own dtype is."""

from __future__ import annotations

import numpy as np


def assert_no_worse(got: np.ndarray, truth: np.ndarray, native: np.ndarray, *, factor: float = 2.0) -> None:
    """`got` against `truth` (float64): its largest error, and its root mean square error, may be `factor` times
    those of `native` (the reference in got's dtype), plus one unit in the last place of the largest value."""
    assert got.shape == truth.shape and got.dtype == native.dtype
    if truth.size == 0:
        return
    assert np.isfinite(got).all(), "not finite"
    ulp = np.spacing(np.abs(truth).max().astype(got.dtype)).astype(np.float64)
    error, allowed = np.abs(got - truth), np.abs(native - truth)
    assert error.max() <= factor * allowed.max() + ulp, (error.max(), allowed.max(), ulp)
    rms, rms_allowed = np.sqrt(np.square(error).mean()), np.sqrt(np.square(allowed).mean())
    assert rms <= factor * rms_allowed + ulp, (rms, rms_allowed, ulp)
