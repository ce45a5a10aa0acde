"""linear in plain NumPy, in the dtype of `x`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

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
) -> np.ndarray:
    """activation(u) + residual, u = x weight^T + bias; gated: activation(one half of u's columns) * the other half."""
    u = x @ weight.T
    if bias is not None:
        u = u + bias
    act = ACTIVATIONS[activation]
    if gate is None:
        y = act(u)
    else:
        first, second = np.split(u, 2, axis=-1)
        y = act(first) * second if gate == "first" else first * act(second)
    return y if residual is None else y + residual
