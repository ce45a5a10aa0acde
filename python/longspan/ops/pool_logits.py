"""pool_logits: an output layer's logits, pooled over each sequence's tokens, without (tokens, vocabulary) in memory."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np

from longspan import _core, reference
from longspan._core import PackedLinear
from longspan.ops.arrays import Array, dtype_of, is_array
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_axes, check_cu_seqlens
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless, unless_torch
from longspan.ops.linear import pack_linear

LogitPooling: TypeAlias = Literal["max", "sum"]
Saturation: TypeAlias = Literal["log1p", "log1p_twice"]
LOGIT_POOLINGS: Final[tuple[LogitPooling, ...]] = ("max", "sum")
SATURATIONS: Final[tuple[Saturation | None, ...]] = (None, "log1p", "log1p_twice")


def _refuses_triton(x: Array, weight: Array | PackedLinear, *rest: object, **options: object) -> str | None:
    if isinstance(weight, PackedLinear):
        return "weight must be a tensor, not packed for the CPU"
    if dtype_of(weight) != dtype_of(x):
        return f"weight must be {dtype_of(x)}, as x, got {dtype_of(weight)}"
    return unless_torch(dtypes=GPU_FLOATS)(x, weight, *rest, **options)


POOL_LOGITS: Op[Array] = Op(
    "pool_logits",
    (
        Backend("cpu", "ops.pool_logits:_pool_logits_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("triton", "kernels.pool_logits:pool_logits", _refuses_triton),
        Backend("reference", "ops.pool_logits:_pool_logits_reference", only_on_request),
    ),
)


def pool_logits(
    x: Array,
    weight: Array | PackedLinear,
    cu_seqlens: Array,
    bias: Array | None = None,
    *,
    pooling: LogitPooling = "max",
    saturation: Saturation | None = None,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Multiply each token by an output layer and pool the logits over each sequence's tokens, as SPLADE does.

    u[t] = x[t] weight^T + bias
    max: out[s] = max over the tokens t of sequence s of f(u[t]);   sum: out[s] = sum over t of f(u[t])
    f(u) = u, log(1 + max(u, 0)) with "log1p", log(1 + log(1 + max(u, 0))) with "log1p_twice"

    The products are made in the dtype that `weight` was packed in; all else is f32. What is in memory beside the result
    are some rows of `x`: never (total_tokens, out_features). A sequence's result depends on its own rows alone: on
    the CPU the same bits in any batch and on any number of threads.

    Args:
        x: (total_tokens, in_features) f32; on a GPU also f16 or bf16.
        weight: (out_features, in_features), dtype and device of `x`: packed anew at each call; or what `pack_linear`
            made of it, once, without a gate.
        cu_seqlens: (num_sequences + 1,) int32, from 0 to total_tokens, never falling.
        bias: (out_features,) or None for none; None with a `PackedLinear`, which has its own.
        pooling: "max" or "sum".
        saturation: f: None, "log1p" or "log1p_twice".
        out: (num_sequences, out_features) to write to, or None for a new array; must not overlap `x`.
        backend: "auto" or one of `POOL_LOGITS.names`.
    Returns: (num_sequences, out_features), `out` if it was given. A sequence without tokens has zeros; -infinity with
        "max" and no saturation. One with a logit that is no finite number has NaN there.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: SPLADE, arXiv:2107.05720 (sum), arXiv:2109.10086 (max), arXiv:2504.14839 (log1p twice).
    """
    if pooling not in LOGIT_POOLINGS:
        raise ValueError(f"pool_logits: pooling must be max or sum, got {pooling!r}")
    if saturation not in SATURATIONS:
        raise ValueError(f"pool_logits: saturation must be None, log1p or log1p_twice, got {saturation!r}")
    check_axes("pool_logits", "x", x, ("total_tokens", "in_features"))
    if isinstance(weight, PackedLinear):
        out_features, in_features = weight.out_features, weight.in_features
        for name, value in (("bias", bias), ("weight's gate", weight.gate)):
            if value is not None:
                raise ValueError(f"pool_logits: {name} must be None with a PackedLinear")
    else:
        check_axes("pool_logits", "weight", weight, ("out_features", "in_features"))
        out_features, in_features = weight.shape
        if bias is not None:
            check_axes("pool_logits", "bias", bias, (out_features,))
    check_axes("pool_logits", "x", x, ("total_tokens", in_features))
    check_cu_seqlens("pool_logits", "cu_seqlens", cu_seqlens, x.shape[0])
    if out is not None:
        check_axes("pool_logits", "out", out, (cu_seqlens.shape[0] - 1, out_features))
    how = {"pooling": pooling, "saturation": saturation, "out": out}
    return POOL_LOGITS(x, weight, cu_seqlens, bias, **how, backend=backend)


def _pool_logits_cpu(
    x: Array,
    weight: Array | PackedLinear,
    cu_seqlens: Array,
    bias: Array | None,
    *,
    pooling: LogitPooling,
    saturation: Saturation | None,
    out: Array | None,
) -> Array:
    packed = weight if isinstance(weight, PackedLinear) else pack_linear([weight], [bias])
    rows, offsets = kernel_input("pool_logits", "x", x), kernel_input("pool_logits", "cu_seqlens", cu_seqlens)
    times = SATURATIONS.index(saturation)

    def kernel(result: np.ndarray) -> None:
        _core.pool_logits(rows, packed, offsets, pooling == "sum", times, result)

    return run_kernel("pool_logits", kernel, (len(offsets) - 1, packed.out_features), out, x)


def _pool_logits_reference(
    x: Array,
    weight: Array | PackedLinear,
    cu_seqlens: Array,
    bias: Array | None,
    *,
    pooling: LogitPooling,
    saturation: Saturation | None,
    out: Array | None,
) -> Array:
    dtype = "float32"
    if isinstance(weight, PackedLinear):
        dtype = weight.dtype
        weight, bias = (part.astype(dtype_of(x)) for part in weight.unpack())
    assert is_array(weight)
    how: dict[str, object] = {"pooling": pooling, "saturation": saturation, "dtype": dtype}
    return run_reference("pool_logits", reference.pool_logits, x, weight, bias, cu_seqlens, out=out, **how)
