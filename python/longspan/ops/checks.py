"""Checks that the ops share, in one voice: op, rule, what came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Final

import numpy as np

from longspan.ops.arrays import Array, dtype_of, host_values, is_array, not_an_array

_TOO_HARD: Final[type[Exception]] = getattr(np, "exceptions", np).TooHardError  # its home since NumPy 1.25


def check_axes(op: str, name: str, array: Array, shape: tuple[str | int, ...]) -> None:
    """`array` must be one, with these axes; a number is a length to match, a string only the axis's name."""
    check_array(op, name, array)
    got = tuple(array.shape)
    if len(got) == len(shape):
        for want, have in zip(shape, got):
            if want != have and not isinstance(want, str):
                break
        else:
            return
    wanted = ", ".join(str(axis) for axis in shape)
    raise ValueError(f"{op}: {name} must be ({wanted}{',' if len(shape) == 1 else ''}), got {got}")


def check_array(op: str, name: str, array: object) -> None:
    """A NumPy array or a torch tensor: lists, frames and None are not taken for one."""
    if not is_array(array):
        raise not_an_array(op, name, array)


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


def check_out(op: str, out: Array | None, inputs: Mapping[str, Array | None], *, may_be: tuple[str, ...] = ()) -> None:
    """`out` has room of its own for every value, and shares none with an input: but it may be, whole, one of `may_be`.

    Looked at on the host only. Two arrays of which it is too hard to tell, by their strides, pass."""
    target = None if out is None else host_values(op, "out", out)
    if target is None or not target.size:
        return
    if 0 in target.strides and any(not stride and length > 1 for stride, length in zip(target.strides, target.shape)):
        raise ValueError(f"{op}: out must have room for every value, got strides {target.strides} for {target.shape}")
    for name, array in inputs.items():
        if array is None:
            continue
        given = host_values(op, name, array)
        if given is None or not np.may_share_memory(target, given):
            continue
        is_whole = (target.__array_interface__["data"], target.strides, target.shape, target.dtype) == (
            (given.__array_interface__["data"][0], target.__array_interface__["data"][1]),
            given.strides,
            given.shape,
            given.dtype,
        )
        if is_whole and name in may_be:
            continue
        if _overlap(target, given):
            rule = f"may be {name} itself, not overlap it otherwise" if name in may_be else f"must not overlap {name}"
            raise ValueError(f"{op}: out {rule}")


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=100_000)  # type: ignore[arg-type]  # NumPy's types know two numbers
    except _TOO_HARD:
        return False


def check_positive(op: str, name: str, value: float) -> None:
    """A finite number above 0."""
    if not (math.isfinite(checked_number(op, name, value)) and value > 0):
        raise ValueError(f"{op}: {name} must be a finite number above 0, got {value}")


def checked_number(op: str, name: str, value: object) -> float:
    """A real number, of Python's or NumPy's, as Python's."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, Real):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    return float(value)
