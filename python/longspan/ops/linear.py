"""linear: the matrix product of every layer, with bias, activation, gated pair and residual in its epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from longspan import _core, reference
from longspan._core import PackedLinear, PackedLora
from longspan.ops.activations import Activation, Gate
from longspan.ops.arrays import Array, dtype_of, to_numpy
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_axes, check_out
from longspan.ops.dispatch import Backend, Op, only_on_request, unless
from longspan.ops.multi_lora import check_lora_ids

# What products are computed in; sums, and all that lies between products, are float32.
ComputeType: TypeAlias = Literal["float32", "bfloat16", "int8"]
COMPUTE_TYPES: Final[tuple[ComputeType, ...]] = ("float32", "bfloat16", "int8")
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh", "relu", "silu", "tanh")
GATES: tuple[Gate, ...] = ("first", "second")

LINEAR: Op[Array] = Op(
    "linear",
    (
        Backend("cpu", "ops.linear:_linear_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("reference", "ops.linear:_linear_reference", only_on_request),
    ),
)


def linear(
    x: Array,
    weight: Array | PackedLinear,
    bias: Array | None = None,
    *,
    activation: Activation | None = None,
    gate: Gate | None = None,
    residual: Array | None = None,
    lora: PackedLora | None = None,
    lora_ids: Array | None = None,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Multiply each row by a weight matrix; add the bias, apply the activation, add the residual.

    u = x weight^T + bias + what the row's adapter adds (`multi_lora`)
    not gated: out = activation(u) + residual
    gated:     out = activation(u[:, :half]) * u[:, half:] + residual, or with gate="second"
               out = u[:, :half] * activation(u[:, half:]) + residual, half = out_rows / 2

    The products are made in the dtype that `weight` was packed in; all else is f32 (`pack_linear`).
    A row's result depends on that row and its adapter alone: the same bits in any batch and on any number of threads;
    and without an adapter the same as in a call without `lora`.

    Args:
        x: (rows, in_features) f32.
        weight: (out_rows, in_features), dtype and device of `x`: packed anew at each call; or what `pack_linear`
            made of it, once.
        bias: (out_rows,) or None for none; None with a `PackedLinear`, which has its own.
        activation: "gelu" (exact, by erf), "gelu_tanh" (its tanh approximation), "relu", "silu", "tanh" or None.
        gate: which half of a gated pair the activation is for, "first" or "second"; None: not gated. None with a
            `PackedLinear`, which has its own.
        residual: (rows, out_features) or None; added last. out_features is out_rows, or half of them if gated.
        lora: adapters that `pack_lora` packed for this weight, or None.
        lora_ids: (rows,) int32, each row's adapter, or -1 for none; given if and only if `lora` is.
        out: (rows, out_features) to write to, or None for a new array; may be `residual`, must not overlap `x`.
        backend: "auto" or one of `LINEAR.names`.
    Returns: (rows, out_features), `out` if it was given.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: GELU, arXiv:1606.08415; gated pairs, arXiv:2002.05202.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(f"linear: activation must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    check_axes("linear", "x", x, ("rows", "in_features"))
    out_features = _check_packed(weight, bias, gate) if isinstance(weight, PackedLinear) else _check(weight, bias, gate)
    in_features = weight.in_features if isinstance(weight, PackedLinear) else weight.shape[1]
    check_axes("linear", "x", x, ("rows", in_features))
    for name, array in (("residual", residual), ("out", out)):
        if array is not None:
            check_axes("linear", name, array, (x.shape[0], out_features))
    check_out("linear", out, {"x": x, "residual": residual}, may_be=("residual",))
    if (lora is None) != (lora_ids is None):
        raise ValueError("linear: lora and lora_ids go together; one is None")
    if lora is not None and lora_ids is not None:
        if not isinstance(lora, PackedLora):
            raise TypeError(f"linear: lora must be what pack_lora makes, got {type(lora).__name__}")
        check_lora_ids("linear", lora_ids, x.shape[0], lora.num_adapters)
    how = {"activation": activation, "gate": gate, "residual": residual, "lora": lora, "lora_ids": lora_ids}
    return LINEAR(x, weight, bias, **how, out=out, backend=backend)


def pack_linear(
    weights: Sequence[Array],
    biases: Sequence[Array | None] | None = None,
    *,
    gate: Gate | None = None,
    dtype: ComputeType = "float32",
) -> PackedLinear:
    """Lay out the weights of one layer as the kernels of the instruction set in force read them. Copies: the originals
    may be freed, or be read-only views of a mapped file.

    `dtype` is what `linear` multiplies in; x, the sums' end and all after it are f32:
    "float32": weights as they are.
    "bfloat16": weights and rows of x are rounded to bfloat16 (to nearest, ties to even), and so are the factors of
        adapters and what they shrink a row to; sums are f32.
    "int8": rows of both are rotated, by 64 columns, which spreads what sticks out and leaves their products as they are
        (QuaRot, arXiv:2404.00456); then each row of weights is scale * q, q from -127 to 127, scale its largest value /
        127; each row of x becomes scale * (q - zero), q from 0 to 255, by its smallest and largest value, with 0 exact.
        Sums are exact. A row of weights or of x with a NaN or an infinity gives NaN. Adapters shrink a row in int8 and
        expand it in bfloat16.

    Args:
        weights: matrices (out_rows, in_features), stacked by rows: one, or several such as query, key and value. f32,
            f16, or uint16 for the bit patterns of bfloat16.
        biases: (out_rows,) f32 or f16 or None for each of `weights`; None for none at all.
        gate: which half of the stacked rows the activation is for, "first" or "second"; None: not gated.
        dtype: "float32", "bfloat16" or "int8"; the last for in_features up to 66311.
    Returns: a PackedLinear with `.in_features`, `.out_features`, `.gate`, `.dtype`, `.isa`, `.nbytes` and `.unpack()`,
        which gives the stacked weight, as it is multiplied, and the bias back in f32.
    Raises: ValueError, an input breaks a line above.
    """
    _check_gate("pack_linear", gate)
    if dtype not in COMPUTE_TYPES:
        raise ValueError(f"pack_linear: dtype must be one of {', '.join(COMPUTE_TYPES)}, got {dtype!r}")
    biases = [None] * len(weights) if biases is None else biases
    for i, (weight, bias) in enumerate(zip(weights, biases)):
        check_axes("pack_linear", f"weights[{i}]", weight, ("out_rows", "in_features"))
        if bias is not None:
            check_axes("pack_linear", f"biases[{i}]", bias, (weight.shape[0],))
    return PackedLinear(
        [kernel_input("pack_linear", "weights", weight) for weight in weights],
        [None if bias is None else _bias(bias) for bias in biases],
        gate,
        dtype,
    )


def _bias(bias: Array) -> np.ndarray:
    """f16 as f32; what is neither is left for the core to refuse."""
    plain = kernel_input("pack_linear", "biases", bias)
    return plain.astype(np.float32) if plain.dtype == np.float16 else plain


def _check_gate(op: str, gate: Gate | None) -> None:
    if gate is not None and gate not in GATES:
        raise ValueError(f"{op}: gate must be None, first or second, got {gate!r}")


def _check(weight: Array, bias: Array | None, gate: Gate | None) -> int:
    """Check what is to be packed; the layer's out_features."""
    _check_gate("linear", gate)
    check_axes("linear", "weight", weight, ("out_rows", "in_features"))
    out_rows: int = weight.shape[0]
    if bias is not None:
        check_axes("linear", "bias", bias, (out_rows,))
    if gate is None:
        return out_rows
    if out_rows % 2:
        raise ValueError(f"linear: weight must have an even number of rows for gate={gate!r}, got {out_rows}")
    return out_rows // 2


def _check_packed(weight: PackedLinear, bias: Array | None, gate: Gate | None) -> int:
    """Check that nothing is given twice; the layer's out_features."""
    for name, value in (("bias", bias), ("gate", gate)):
        if value is not None:
            raise ValueError(f"linear: {name} must be None with a PackedLinear, which has its own")
    return weight.out_features


def _linear_cpu(
    x: Array,
    weight: Array | PackedLinear,
    bias: Array | None,
    *,
    activation: Activation | None,
    gate: Gate | None,
    residual: Array | None,
    lora: PackedLora | None,
    lora_ids: Array | None,
    out: Array | None,
) -> Array:
    packed = weight if isinstance(weight, PackedLinear) else pack_linear([weight], [bias], gate=gate)
    rows = kernel_input("linear", "x", x)
    added = kernel_input("linear", "residual", residual)
    ids = None if lora_ids is None else np.ascontiguousarray(to_numpy("linear", "lora_ids", lora_ids))
    shape = (rows.shape[0], packed.out_features)

    def kernel(result: np.ndarray) -> None:
        _core.linear(rows, packed, activation, added, result, lora, ids)

    return run_kernel("linear", kernel, shape, out, x)


def _linear_reference(
    x: Array,
    weight: Array | PackedLinear,
    bias: Array | None,
    *,
    activation: Activation | None,
    gate: Gate | None,
    residual: Array | None,
    lora: PackedLora | None,
    lora_ids: Array | None,
    out: Array | None,
) -> Array:
    how: dict[str, object] = {"activation": activation, "gate": gate, "residual": residual}
    rows, delta = to_numpy("linear", "x", x), None
    if lora is not None and lora_ids is not None:
        delta = _adapters_reference(rows, lora, to_numpy("linear", "lora_ids", lora_ids))
    if isinstance(weight, PackedLinear):
        how |= {"gate": weight.gate, "dtype": weight.dtype}
        weight, bias = (part.astype(dtype_of(x)) for part in weight.unpack())
    if delta is not None:
        bias = delta if bias is None else to_numpy("linear", "bias", bias) + delta
    return run_reference("linear", reference.linear, x, weight, bias, out=out, **how)


def _adapters_reference(x: np.ndarray, lora: PackedLora, lora_ids: np.ndarray) -> np.ndarray:
    """What the rows' adapters add: shrunk as the layer's own rows are multiplied, expanded in at least bfloat16."""
    narrow = "float32" if lora.dtype == "float32" else "bfloat16"
    lora_a, lora_b = (factor.astype(x.dtype) for factor in lora.unpack())
    delta = np.zeros((len(x), lora_b.shape[1]), x.dtype)
    for adapter in range(len(lora_a)):
        rows = lora_ids == adapter
        shrunk = reference.linear(x[rows], lora_a[adapter], dtype=lora.dtype)
        delta[rows] = reference.linear(shrunk, lora_b[adapter], dtype=narrow)
    return delta
