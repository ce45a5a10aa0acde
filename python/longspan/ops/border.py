"""Between an op's public arguments and its host kernels: views in, results out as the kind that came."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import numpy as np

from longspan.ops.arrays import Array, is_array, like, rows_contiguous, to_numpy


@overload
def kernel_input(op: str, name: str, array: Array) -> np.ndarray: ...
@overload
def kernel_input(op: str, name: str, array: None) -> None: ...
def kernel_input(op: str, name: str, array: Array | None) -> np.ndarray | None:
    """`array` as a kernel can read it: a NumPy view, or a copy where its layout is too odd."""
    return None if array is None else rows_contiguous(to_numpy(op, name, array))


def run_kernel(
    op: str, kernel: Callable[[np.ndarray], None], shape: tuple[int, ...], out: Array | None, given: object
) -> Array:
    """Let `kernel` fill `out`, or a new f32 array of `shape` that is returned as the kind `given` is."""
    if out is None:
        result = np.empty(shape, np.float32)
        kernel(result)
        return like(result, given)
    target = to_numpy(op, "out", out)
    direct = rows_contiguous(target)
    kernel(direct)
    if direct is not target:
        target[...] = direct
    return out


def run_reference(
    op: str, function: Callable[..., np.ndarray], *args: object, out: Array | None, **kwargs: object
) -> Array:
    """Run a function of `longspan.reference` on any arrays, into `out` if it is given."""

    def plain(value: object) -> object:
        return to_numpy(op, "input", value) if is_array(value) else value

    result = function(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()})
    if out is None:
        return like(result, args[0])
    to_numpy(op, "out", out)[...] = result
    return out
