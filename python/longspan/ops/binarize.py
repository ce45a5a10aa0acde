"""binarize: sign bits of float vectors, packed into codes."""

from __future__ import annotations

import numpy as np

from longspan import _core, reference
from longspan.ops.arrays import Array, like
from longspan.ops.border import kernel_input, run_reference
from longspan.ops.checks import check_axes
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless

BINARIZE: Op[Array] = Op(
    "binarize",
    (
        Backend("cpu", "ops.binarize:_binarize_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("cuda", "ops.cuda:binarize", unless(device="cuda", dtypes=GPU_FLOATS)),
        Backend("reference", "ops.binarize:_binarize_reference", only_on_request),
    ),
)


def binarize(x: Array, *, thresholds: Array | None = None, backend: str = "auto") -> Array:
    """Turn vectors into codes of one bit a dimension: set where x > threshold, most significant bit first.

    Thresholds of each dimension's mean or median spread the codes of vectors that lie in a narrow cone, where signs
    alone would be the same for all of them.

    Args:
        x: (rows, dim) f32 without NaN; infinities compare like any number. On a GPU also f16 or bf16, compared in f32,
            and a NaN is not looked for: its bit is 0.
        thresholds: (dim,) f32 without NaN, or None for 0 everywhere.
        backend: "auto" or one of `BINARIZE.names`.
    Returns: (rows, ceil(dim / 8)) uint8, as np.packbits(x > thresholds, axis=1): zero bits fill up the last byte.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    """
    check_axes("binarize", "x", x, ("rows", "dim"))
    if x.shape[1] < 1:
        raise ValueError("binarize: x must have at least one column, got 0")
    if thresholds is not None:
        check_axes("binarize", "thresholds", thresholds, (x.shape[1],))
    return BINARIZE(x, thresholds=thresholds, backend=backend)


def _binarize_cpu(x: Array, *, thresholds: Array | None) -> Array:
    rows = kernel_input("binarize", "x", x)
    codes = np.empty((rows.shape[0], (rows.shape[1] + 7) // 8), np.uint8)
    _core.binarize(rows, kernel_input("binarize", "thresholds", thresholds), codes)
    return like(codes, x)


def _binarize_reference(x: Array, *, thresholds: Array | None) -> Array:
    return run_reference("binarize", reference.binarize, x, thresholds=thresholds, out=None)
