"""Arrays at the border: NumPy arrays and torch tensors, told apart without importing torch.

An `Array` is a NumPy array or a torch tensor. Ops compute on NumPy views of CPU tensors (DLPack, no copy) and return
the kind that they were given.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np

if TYPE_CHECKING:
    import torch

# Kept: NumPy spells a dtype in microseconds, and every op asks. (torch.compile warns of functools.cache.)
_NAMES: dict[Hashable, str] = {}


class Array(Protocol):
    """What a NumPy array and a torch tensor have in common; `is_array` tells one at run time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""

    @property
    def dtype(self) -> Hashable:
        """The type of one value."""

    def __dlpack__(self, *, stream: int | None = None) -> object:
        """The DLPack capsule."""


def is_torch(array: object) -> TypeGuard[torch.Tensor]:
    """Whether `array` is a torch tensor; never imports torch."""
    loaded = sys.modules.get("torch")
    return loaded is not None and isinstance(array, loaded.Tensor)


def is_array(value: object) -> TypeGuard[Array]:
    """Whether `value` is a NumPy array or a torch tensor."""
    return isinstance(value, np.ndarray) or is_torch(value)


def device_of(array: Array) -> str:
    """ "cpu" or "cuda" (the device's kind, without its number)."""
    return str(array.device.type) if is_torch(array) else "cpu"


def dtype_of(array: Array) -> str:
    """The dtype's name without its library: "float32", "bfloat16", "int32"."""
    name = _NAMES.get(array.dtype)
    if name is None:
        name = _NAMES[array.dtype] = str(array.dtype).rpartition(".")[2]
    return name


def to_numpy(op: str, name: str, array: object) -> np.ndarray:
    """A NumPy view of `array` (no copy). TypeError for anything that is no array; lists are not taken for arrays."""
    if type(array) is np.ndarray:
        return array
    if isinstance(array, np.ndarray):  # a matrix, a memory map: what it is beside an array does not matter here
        return array.view(np.ndarray)
    if is_torch(array):
        return _tensor_view(op, name, array)
    raise not_an_array(op, name, array)


def _tensor_view(op: str, name: str, tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.detach()
    if plain.is_neg():  # the imaginary part of a conjugate: memory holds the values' opposites, which DLPack passes on
        if name == "out":
            raise ValueError(f"{op}: out must hold its values as they are, got a tensor with its negative bit set")
        plain = plain.resolve_neg()
    try:
        return np.from_dlpack(plain)
    except (RuntimeError, BufferError, TypeError) as error:
        kind = f"{str(plain.layout).rpartition('.')[2]} {dtype_of(plain)} on {plain.device}"
        raise TypeError(
            f"{op}: {name} must be a strided tensor on the CPU, of a dtype that NumPy has, got {kind}"
        ) from error


def not_an_array(op: str, name: str, value: object) -> TypeError:
    """What to raise for a list, a frame, None: whatever is no array."""
    return TypeError(f"{op}: {name} must be a NumPy array or a torch tensor, got {type(value).__name__}")


def host_values(op: str, name: str, array: object) -> np.ndarray | None:
    """A NumPy view of `array` for checks of its values; None where they would have to be waited for, or do not exist:
    on a GPU, and while torch traces a graph. TypeError for anything that is no array."""
    if is_torch(array):
        torch = sys.modules["torch"]
        if array.device.type != "cpu" or torch.compiler.is_compiling() or type(array) is not torch.Tensor:
            return None
    return to_numpy(op, name, array)


def like(result: np.ndarray, given: object) -> np.ndarray:
    """`result` as the kind that `given` is: itself, or a torch tensor on the same memory."""
    if is_torch(given):
        tensor: np.ndarray = sys.modules["torch"].from_numpy(result)
        return tensor
    return result


def rows_contiguous(array: np.ndarray) -> np.ndarray:
    """`array`, or a copy if its last axis is not contiguous or it is not aligned: what the kernels can read."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    itemsize = array.dtype.itemsize
    strides_fit = all(stride % itemsize == 0 for stride in array.strides)
    last_fits = array.ndim == 0 or array.shape[-1] <= 1 or array.strides[-1] == itemsize
    return array if flags.aligned and strides_fit and last_fits else np.array(array, order="C")
