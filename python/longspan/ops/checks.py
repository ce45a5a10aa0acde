"""Checks that the ops share, in one voice: op, rule, what came."""

from __future__ import annotations

import math

import numpy as np

from longspan.ops.arrays import Array, dtype_of, host_values


def check_axes(op: str, name: str, array: Array, shape: tuple[str | int, ...]) -> None:
    """`array` must have these axes; a number is a length to match, a string only the axis's name."""
    got = tuple(array.shape)
    if got == shape:
        return
    if len(got) != len(shape) or any(want != have and not isinstance(want, str) for want, have in zip(shape, got)):
        want = ", ".join(str(axis) for axis in shape)
        raise ValueError(f"{op}: {name} must be ({want}{',' if len(shape) == 1 else ''}), got {got}")


def check_cu_seqlens(op: str, name: str, cu_seqlens: Array, total: int) -> np.ndarray | None:
    """int32 offsets that start at 0, never fall, and end at `total`. Returns them, or None where their values are not
    looked at: see `host_values`."""
    offsets = host_values(op, name, cu_seqlens)
    check_axes(op, name, cu_seqlens, ("rows + 1",))
    if dtype_of(cu_seqlens) != "int32":
        raise ValueError(f"{op}: {name} must be int32, got {dtype_of(cu_seqlens)}")
    if cu_seqlens.shape[0] == 0:
        raise ValueError(f"{op}: {name} must start with 0, got []")
    if offsets is None:
        return None
    if offsets[0] != 0:
        raise ValueError(f"{op}: {name} must start with 0, got {offsets[:1].tolist()}")
    if (falls := np.flatnonzero(np.diff(offsets) < 0)).size:
        at = int(falls[0])
        raise ValueError(f"{op}: {name} must never fall, {name}[{at}] is {offsets[at]}, then {offsets[at + 1]}")
    if offsets[-1] != total:
        raise ValueError(f"{op}: {name} must end at the number of rows, {total}, got {offsets[-1]}")
    return offsets


def check_positive(op: str, name: str, value: float) -> None:
    """A finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{op}: {name} must be a finite number above 0, got {value}")
