"""linear in plain NumPy, in the dtype of `x`, and what bfloat16 and int8 make of its operands."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from longspan.reference.maxsim_tokens import bfloat16_bits, bfloat16_values

SMALLEST_SCALE = np.finfo(np.float32).tiny  # of int8: no quotient by it overflows

_erf = np.frompyfunc(math.erf, 1, 1)  # NumPy has none of its own


def _gelu(u: np.ndarray) -> np.ndarray:
    half, root_half = u.dtype.type(0.5), u.dtype.type(math.sqrt(0.5))
    return half * u * (1 + _erf((u * root_half).astype(np.float64)).astype(u.dtype))


def _gelu_tanh(u: np.ndarray) -> np.ndarray:
    half, cubic, scale = (u.dtype.type(value) for value in (0.5, 0.044715, math.sqrt(2 / math.pi)))
    return half * u * (1 + np.tanh(scale * (u + cubic * u * u * u)))


def _silu(u: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # u below -88 in float32: e^-u is inf, and the quotient the right 0
        return u / (1 + np.exp(-u))


ACTIVATIONS: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: lambda u: u,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": lambda u: np.maximum(u, 0),
    "silu": _silu,
    "tanh": np.tanh,
}


def linear(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    activation: str | None = None,
    gate: str | None = None,
    residual: np.ndarray | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """activation(u) + residual, u = x weight^T + bias; gated: activation(one half of u's columns) * the other half.

    `dtype` is what is multiplied: "float32" leaves x and weight as they are, "bfloat16" rounds both, "int8" quantises
    rows of both.
    """
    u = _PRODUCTS[dtype](x, weight)
    if bias is not None:
        u = u + bias
    act = ACTIVATIONS[activation]
    if gate is None:
        y = act(u)
    else:
        first, second = np.split(u, 2, axis=-1)
        y = act(first) * second if gate == "first" else first * act(second)
    return y if residual is None else y + residual


def round_bfloat16(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 to each value, ties to even, in the dtype of `x`."""
    return bfloat16_values(bfloat16_bits(x)).astype(x.dtype)


def rotate(x: np.ndarray) -> np.ndarray:
    """Each whole block of 64 columns times the Walsh-Hadamard matrix / 8, in float32; columns behind the last one stay.
    Products of rotated rows are those of the rows, and no value sticks out: QuaRot, arXiv:2404.00456."""
    rotated = x.astype(np.float32)
    rows, blocks = len(x), x.shape[1] // 64
    whole = rotated[:, : 64 * blocks]
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite spreads over its block
        whole *= np.float32(0.125)
        for step in (1, 2, 4, 8, 16, 32):
            low, high = np.moveaxis(whole.reshape(rows, 32 * blocks // step, 2, step), 2, 0)
            whole[:] = np.stack([low + high, low - high], axis=2).reshape(whole.shape)
    return rotated


def quantize_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers (out_rows, columns) int64, -127 to 127, and f32 scales (out_rows,), NaN for a row that is not
    finite: rotate(weight) ~ scale * whole."""
    weight = rotate(weight)
    peaks = np.abs(weight).max(axis=1)
    finite = np.isfinite(peaks)
    scales = np.maximum(peaks / np.float32(127), SMALLEST_SCALE)
    wholes = np.rint(np.where(finite[:, None], weight, 0) / np.where(finite, scales, 1)[:, None])
    return np.clip(wholes, -127, 127).astype(np.int64), np.where(finite, scales, np.float32(np.nan))


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole numbers (rows, columns) int64, 0 to 255, f32 scales (rows,), NaN for a row that is not finite, and zeros
    (rows,) int64: rotate(x) ~ scale * (whole - zero)."""
    x = rotate(x)
    finite = np.isfinite(x).all(axis=1)
    plain = np.where(finite[:, None], x, 0)
    low, high = plain.min(axis=1, initial=0), plain.max(axis=1, initial=0)
    scales = np.maximum(high / np.float32(255) - low / np.float32(255), SMALLEST_SCALE)
    inverses = np.float32(1) / scales
    zeros = np.rint(-low * inverses)
    wholes = np.minimum(np.rint(plain * inverses[:, None]) + zeros[:, None], 255)
    return wholes.astype(np.int64), np.where(finite, scales, np.float32(np.nan)), zeros.astype(np.int64)


def _product_int8(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    wholes, scales, zeros = quantize_rows(x)
    weights, weight_scales = quantize_weight(weight)
    sums = (wholes - zeros[:, None]) @ weights.T
    return sums.astype(x.dtype) * (scales[:, None] * weight_scales).astype(x.dtype)


_PRODUCTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "float32": lambda x, weight: x @ weight.T,
    "bfloat16": lambda x, weight: round_bfloat16(x) @ round_bfloat16(weight).T,
    "int8": _product_int8,
}
