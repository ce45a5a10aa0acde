"""multi_lora: low-rank adapters of a linear layer, one for each row; packing them for `linear`, which fuses them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from longspan import _core
from longspan._core import PackedLinear, PackedLora
from longspan.ops.arrays import Array, dtype_of, host_values, to_numpy
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_axes, check_out, checked_number
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless, unless_torch
from longspan.reference.multi_lora import multi_lora as reference_multi_lora

MULTI_LORA: Op[Array] = Op(
    "multi_lora",
    (
        Backend("cpu", "ops.multi_lora:_multi_lora_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("triton", "kernels.multi_lora:multi_lora", unless_torch(dtypes=GPU_FLOATS)),
        Backend("reference", "ops.multi_lora:_multi_lora_reference", only_on_request),
    ),
)


def multi_lora(
    x: Array,
    lora_a: Array,
    lora_b: Array,
    lora_ids: Array,
    scaling: float | Sequence[float] = 1.0,
    *,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """What each row's own adapter adds to a linear layer, in one pass over rows of any adapters.

    out[r] = scaling[t] * lora_b[t] (lora_a[t] x[r]), t = lora_ids[r]; zeros where lora_ids[r] is -1

    `linear(..., lora=pack_lora(...), lora_ids=...)` adds the same before its activation. A row's result depends on that
    row and its adapter alone, bit for bit. On a GPU the numbers in `lora_ids` are not checked: that would wait for it.

    Args:
        x: (rows, in_features) f32; on a GPU also f16 or bf16.
        lora_a: (n, rank, in_features), dtype and device of `x`: n adapters, shrinking.
        lora_b: (n, out_features, rank), the same: expanding. Adapters of a lower rank are padded with zeros.
        lora_ids: (rows,) int32, each from 0 to n - 1, or -1 for none.
        scaling: alpha / rank of every adapter, or of each.
        out: (rows, out_features) to write to, or None for a new array; must not overlap `x`.
        backend: "auto" or one of `MULTI_LORA.names`.
    Returns: (rows, out_features), `out` if it was given.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: LoRA, arXiv:2106.09685; many adapters in one batch, arXiv:2310.18547, arXiv:2311.03285.
    """
    check_axes("multi_lora", "x", x, ("rows", "in_features"))
    scalings = _check_adapters("multi_lora", lora_a, lora_b, scaling, x.shape[1])
    check_lora_ids("multi_lora", lora_ids, x.shape[0], lora_a.shape[0])
    if out is not None:
        check_axes("multi_lora", "out", out, (x.shape[0], lora_b.shape[1]))
        check_out("multi_lora", out, {"x": x, "lora_a": lora_a, "lora_b": lora_b})
    return MULTI_LORA(x, lora_a, lora_b, lora_ids, scaling=scalings, out=out, backend=backend)


def pack_lora(lora_a: Array, lora_b: Array, scaling: float | Sequence[float], base: PackedLinear) -> PackedLora:
    """Lay out the adapters of one layer beside its packed weights, for `linear`. Copies.

    Args:
        lora_a: (n, rank, in_features) f32.
        lora_b: (n, out_rows, rank) f32, its rows as those of the weights that `base` was packed from. Stacked weights
            with an adapter each (query, key and value) take their lora_a below each other and their lora_b along the
            diagonal; the zeros beside it are neither stored nor multiplied by.
        scaling: alpha / rank of every adapter, or of each.
        base: the layer that they adapt.
    Returns: a PackedLora with `.num_adapters`, `.rank`, `.nbytes` and `.unpack()`, which gives lora_a, times its
        scaling, and lora_b back.
    Raises: ValueError, an input breaks a line above.
    """
    if not isinstance(base, PackedLinear):
        raise TypeError(f"pack_lora: base must be what pack_linear makes, got {type(base).__name__}")
    scalings = _check_adapters("pack_lora", lora_a, lora_b, scaling, base.in_features)
    a, b = (kernel_input("pack_lora", name, array) for name, array in (("lora_a", lora_a), ("lora_b", lora_b)))
    return PackedLora(a, b, scalings, base)


def check_lora_ids(op: str, lora_ids: Array, rows: int, num_adapters: int) -> None:
    """(rows,) int32, each an adapter's number or -1."""
    check_axes(op, "lora_ids", lora_ids, (rows,))
    if dtype_of(lora_ids) != "int32":
        raise ValueError(f"{op}: lora_ids must be int32, got {dtype_of(lora_ids)}")
    ids = host_values(op, "lora_ids", lora_ids)
    if ids is not None and (wrong := np.flatnonzero((ids < -1) | (ids >= num_adapters))).size:
        raise ValueError(
            f"{op}: lora_ids[{wrong[0]}] is {ids[wrong[0]]} but {num_adapters} adapters are loaded; "
            f"use -1 for the base model"
        )


def _check_adapters(
    op: str, lora_a: Array, lora_b: Array, scaling: float | Sequence[float], in_features: int
) -> list[float]:
    """Check the factors; every adapter's scaling."""
    check_axes(op, "lora_a", lora_a, ("n", "rank", in_features))
    check_axes(op, "lora_b", lora_b, (lora_a.shape[0], "out_features", lora_a.shape[1]))
    if 0 in lora_a.shape:
        raise ValueError(f"{op}: lora_a must have at least one adapter, rank and input, got {tuple(lora_a.shape)}")
    if lora_b.shape[1] == 0:
        raise ValueError(f"{op}: lora_b must have at least one output, got {tuple(lora_b.shape)}")
    has_many = isinstance(scaling, (list, tuple)) or (isinstance(scaling, np.ndarray) and scaling.ndim > 0)
    listed = cast("Sequence[float]", scaling if has_many else [scaling])
    scalings = [checked_number(op, "scaling", value) for value in listed]
    if len(scalings) == 1:
        scalings *= lora_a.shape[0]
    if len(scalings) != lora_a.shape[0]:
        raise ValueError(f"{op}: scaling must be one number or {lora_a.shape[0]}, one an adapter; got {len(scalings)}")
    if not all(map(math.isfinite, scalings)):
        raise ValueError(f"{op}: scaling must be finite, got {scalings}")
    return scalings


def _multi_lora_cpu(
    x: Array, lora_a: Array, lora_b: Array, lora_ids: Array, *, scaling: list[float], out: Array | None
) -> Array:
    rows, a, b = (
        kernel_input("multi_lora", name, array) for name, array in (("x", x), ("lora_a", lora_a), ("lora_b", lora_b))
    )
    ids = np.ascontiguousarray(to_numpy("multi_lora", "lora_ids", lora_ids))
    shape = (rows.shape[0], b.shape[1])
    return run_kernel("multi_lora", lambda result: _core.multi_lora(rows, a, b, ids, scaling, result), shape, out, x)


def _multi_lora_reference(
    x: Array, lora_a: Array, lora_b: Array, lora_ids: Array, *, scaling: list[float], out: Array | None
) -> Array:
    scalings = np.asarray(scaling)
    return run_reference("multi_lora", reference_multi_lora, x, lora_a, lora_b, lora_ids, scalings, out=out)
