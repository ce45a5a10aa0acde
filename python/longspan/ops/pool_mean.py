"""pool_mean: the mean of each packed sequence."""

from __future__ import annotations

from longspan import _core, reference
from longspan.ops.arrays import Array
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_axes, check_cu_seqlens
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless, unless_torch

POOL_MEAN: Op[Array] = Op(
    "pool_mean",
    (
        Backend("cpu", "ops.pool_mean:_pool_mean_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("triton", "kernels.pool_mean:pool_mean", unless_torch(dtypes=GPU_FLOATS)),
        Backend("reference", "ops.pool_mean:_pool_mean_reference", only_on_request),
    ),
)


def pool_mean(hidden: Array, cu_seqlens: Array, *, backend: str = "auto") -> Array:
    """Average the rows of each packed sequence.

    out[r] = mean of hidden[cu_seqlens[r] : cu_seqlens[r + 1]]; zeros where a sequence is empty.

    Args:
        hidden: (total_tokens, dim) f32; on a GPU also f16 or bf16.
        cu_seqlens: (rows + 1,) int32, from 0 to total_tokens, never falling.
        backend: "auto" or one of `POOL_MEAN.names`.
    Returns: (rows, dim) f32. A sequence's mean depends on its own rows alone, on the CPU bit for bit.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    """
    check_axes("pool_mean", "hidden", hidden, ("total_tokens", "dim"))
    check_cu_seqlens("pool_mean", "cu_seqlens", cu_seqlens, hidden.shape[0])
    return POOL_MEAN(hidden, cu_seqlens, backend=backend)


def _pool_mean_cpu(hidden: Array, cu_seqlens: Array) -> Array:
    rows = kernel_input("pool_mean", "hidden", hidden)
    offsets = kernel_input("pool_mean", "cu_seqlens", cu_seqlens)
    shape = (len(offsets) - 1, rows.shape[1])
    return run_kernel("pool_mean", lambda out: _core.pool_mean(rows, offsets, out), shape, None, hidden)


def _pool_mean_reference(hidden: Array, cu_seqlens: Array) -> Array:
    return run_reference("pool_mean", reference.pool_mean, hidden, cu_seqlens, out=None)
