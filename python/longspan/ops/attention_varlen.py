"""attention_varlen: attention over packed sequences, with ALiBi, RoPE, relative bias, causal masks and windows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import numpy as np

from longspan import _core, reference
from longspan.ops.arrays import Array, dtype_of, is_array
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_axes, check_cu_seqlens, check_out, check_positive
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless, unless_torch

if TYPE_CHECKING:
    import torch

MAX_GPU_HEAD_DIM = 256
MAX_INT8_HEAD_DIM = 1024  # floats hold sums of so many products of whole numbers


def _refuses_triton(q: Array, *args: object, dtype: str, **kwargs: object) -> str | None:
    if dtype != "float32":
        return "multiplies rows in their own dtype; give bfloat16 rows"
    if q.shape[-1] > MAX_GPU_HEAD_DIM:
        return f"head_dim must be at most {MAX_GPU_HEAD_DIM}, got {q.shape[-1]}"
    return unless_torch(dtypes=GPU_FLOATS)(q, *args, **kwargs)


def _refuses_sm90(q: Array, k: Array, v: Array, *args: Array, dtype: str, **kwargs: object) -> str | None:
    """What the Hopper kernel does not take: csrc/attention_varlen/cuda_sm90.h."""
    if (reason := unless(device="cuda")(q, k, v, *args, **kwargs) or _refuses_device(q, k, v)) is not None:
        return reason
    if dtype != "float32":
        return "multiplies rows in their own dtype; give bfloat16 rows"
    if dtype_of(q) not in ("float16", "bfloat16") or q.shape[-1] not in (64, 128):
        return f"takes float16 and bfloat16 with head_dim 64 or 128, got {dtype_of(q)} with {q.shape[-1]}"
    tables = kwargs.get("cos") is not None or kwargs.get("bias_table") is not None
    if tables or kwargs.get("window") not in (None, (-1, -1)):
        return "has no RoPE, no bias_table and no window"
    for name, rows in (("q", q), ("k", k), ("v", v)):
        if (place := _misaligned(rows)) is not None:
            return f"{name} must have its rows and heads at multiples of 16 bytes, got {place}; make it contiguous"
    return None


def _refuses_device(*tensors: torch.Tensor) -> str | None:
    torch = sys.modules["torch"]
    if torch.compiler.is_compiling() or any(type(x) not in (torch.Tensor, torch.nn.Parameter) for x in tensors):
        return "cannot be traced"
    major, minor = torch.cuda.get_device_capability(tensors[0].device)
    return None if (major, minor) == (9, 0) else f"needs compute capability 9.0, got {major}.{minor}"


def _misaligned(rows: torch.Tensor) -> str | None:
    """Why tensor copies cannot read these 16-bit rows, or None. Others than with a contiguous last axis are copied."""
    row, head, last = rows.stride()
    if last != 1:
        return None
    strides = [stride for stride, count in ((row, rows.shape[0]), (head, rows.shape[1])) if count > 1]
    if any(stride <= 0 or stride % 8 != 0 for stride in strides):
        return f"strides of {2 * row} and {2 * head} bytes"
    address = rows.data_ptr()
    return f"an address {address % 16} bytes beyond one" if address % 16 != 0 else None


ATTENTION_VARLEN: Op[Array] = Op(
    "attention_varlen",
    (
        Backend("cpu", "ops.attention_varlen:_attention_varlen_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("triton", "kernels.attention_varlen:attention_varlen", _refuses_triton),
        # Not yet faster than Triton's by any measurement: DECISIONS.md.
        Backend("cuda_sm90", "ops.cuda_attention:attention_varlen", _refuses_sm90, is_automatic=False),
        Backend("reference", "ops.attention_varlen:_attention_varlen_reference", only_on_request),
    ),
)


def attention_varlen(
    q: Array,
    k: Array,
    v: Array,
    cu_seqlens_q: Array,
    cu_seqlens_k: Array,
    *,
    slopes: Array | None = None,
    cos: Array | None = None,
    sin: Array | None = None,
    interleaved: bool = False,
    rotary_by_key: bool = False,
    bias_table: Array | None = None,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    softmax_scale: float | None = None,
    dtype: Literal["float32", "bfloat16", "int8"] = "float32",
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Attend within each packed sequence: out = softmax(scores) v, per query head.

    scores[i, j] = softmax_scale * <rope(q_i), rope(k_j)> - slopes[h] * |i - j| + bias_table[h, clip(j - i, -D, D) + D]

    Keys stand at j = 0 .. len_k - 1 in their sequence. Queries end where the keys end: row r stands at
    i = len_k - len_q + r. Query head h reads key head h // (num_heads / num_kv_heads). No array of length squared
    exists. A sequence's result depends on that sequence alone, bit for bit. On a GPU, q, k and v have gradients, and
    the values of the offsets and the reach of the tables are not checked: that would wait for it.

    Args:
        q: (total_q, num_heads, head_dim) f32, any row and head strides (a slice of a fused projection is fine). On a
            GPU also f16 or bf16, with head_dim up to 256.
        k: (total_k, num_kv_heads, head_dim), dtype and device of `q`; num_heads is a multiple of num_kv_heads.
        v: as `k`.
        cu_seqlens_q: (num_sequences + 1,) int32, from 0 to total_q, never falling.
        cu_seqlens_k: (num_sequences + 1,) int32, from 0 to total_k, never falling.
        slopes: (num_heads,) ALiBi slopes, or None; symmetric, added after the scale.
        cos: (max_position, rotary_dim / 2) cosines of RoPE's angles, or None; q and k are rotated as they load. The
            first rotary_dim values of a head are rotated by their position's row, the others pass through.
        sin: as `cos`; both or neither.
        interleaved: RoPE pairs the values (2 p, 2 p + 1); False pairs (p, p + rotary_dim / 2).
        rotary_by_key: cos and sin have a row for each key of the pack, (total_k, rotary_dim / 2), which need not go by
            its place alone: 2-d RoPE, M-RoPE. A query takes the row of the key that stands where it stands.
        bias_table: (num_heads, 2 * D + 1) bias of the relative distance j - i, from -D to D; farther ones take the
            nearest end's. T5's buckets depend on j - i alone and saturate, so they expand into this table.
        causal: hide the keys j > i.
        window: (left, right) hides the keys outside i - left <= j <= i + right; -1 is no limit.
        softmax_scale: above 0; None is 1 / sqrt(head_dim).
        dtype: what the two products multiply; sums, softmax and arrays are f32 in either case. "bfloat16" rounds q, k
            (rotated), v, and the weights exp(score - maximum), which are divided by the sum of the rounded ones.
            "int8": q and k of sequences of 256 keys and more become whole numbers of eight bits, with a scale for each
            row and head (csrc/attention_varlen/whole.h); v, and shorter sequences, are in bfloat16 where the
            instruction set multiplies it, else in float32. For head_dim up to 1024.
        out: (total_q, num_heads, head_dim) to write to, or None for a new array; may be `q`, not `k` or `v`.
        backend: "auto" or one of `ATTENTION_VARLEN.names`. "cuda_sm90", the CUDA kernel for H100 and H200 (f16 and
            bf16, head_dim 64 and 128, without RoPE, tables and windows), runs only where it is named.
    Returns: (total_q, num_heads, head_dim), `out` if it was given. A query that sees no key gives zeros.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: FlashAttention-2, arXiv:2307.08691; ALiBi, arXiv:2108.12409; RoPE, arXiv:2104.09864; T5, arXiv:1910.10683.
    """
    _check_rows(q, k, v, out)
    lengths = _check_lengths(cu_seqlens_q, cu_seqlens_k, q.shape[0], k.shape[0])
    _check_position_tables(q, slopes, bias_table, cos, sin, interleaved or rotary_by_key)
    if rotary_by_key and cos is not None:
        check_axes("attention_varlen", "cos", cos, (k.shape[0], "rotary_dim / 2"))
    if cos is not None and lengths is not None:
        _check_rotary_range(cos, *lengths)
    if window is not None:
        window = _checked_window(window)
    if softmax_scale is not None:
        check_positive("attention_varlen", "softmax_scale", softmax_scale)
    if dtype not in ("float32", "bfloat16", "int8"):
        raise ValueError(f"attention_varlen: dtype must be 'float32', 'bfloat16' or 'int8', got {dtype!r}")
    if dtype == "int8" and q.shape[2] > MAX_INT8_HEAD_DIM:
        raise ValueError(f"attention_varlen: head_dim must be at most {MAX_INT8_HEAD_DIM} for int8, got {q.shape[2]}")
    return ATTENTION_VARLEN(
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        slopes=slopes,
        cos=cos,
        sin=sin,
        interleaved=interleaved,
        rotary_by_key=rotary_by_key,
        bias_table=bias_table,
        causal=causal,
        window=window,
        softmax_scale=softmax_scale,
        dtype=dtype,
        out=out,
        backend=backend,
    )


def _check_rows(q: Array, k: Array, v: Array, out: Array | None) -> None:
    check_axes("attention_varlen", "q", q, ("total_q", "num_heads", "head_dim"))
    total_q, num_heads, head_dim = q.shape
    check_axes("attention_varlen", "k", k, ("total_k", "num_kv_heads", head_dim))
    check_axes("attention_varlen", "v", v, tuple(k.shape))
    if num_heads < 1 or head_dim < 1:
        raise ValueError(f"attention_varlen: q must have at least one head and one value a head, got {tuple(q.shape)}")
    if k.shape[1] < 1 or num_heads % k.shape[1] != 0:
        raise ValueError(f"attention_varlen: q's {num_heads} heads must be a multiple of k's, got {k.shape[1]}")
    if out is not None:
        check_axes("attention_varlen", "out", out, (total_q, num_heads, head_dim))
        check_out("attention_varlen", out, {"q": q, "k": k, "v": v}, may_be=("q",))


def _check_lengths(
    cu_seqlens_q: Array, cu_seqlens_k: Array, total_q: int, total_k: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The sequences' query lengths and key lengths; None where they are on a GPU."""
    offsets_q = check_cu_seqlens("attention_varlen", "cu_seqlens_q", cu_seqlens_q, total_q)
    if is_array(cu_seqlens_k):
        check_axes("attention_varlen", "cu_seqlens_k", cu_seqlens_k, tuple(cu_seqlens_q.shape))
    offsets_k = check_cu_seqlens("attention_varlen", "cu_seqlens_k", cu_seqlens_k, total_k)
    return None if offsets_q is None or offsets_k is None else (np.diff(offsets_q), np.diff(offsets_k))


def _check_position_tables(
    q: Array,
    slopes: Array | None,
    bias_table: Array | None,
    cos: Array | None,
    sin: Array | None,
    needs_tables: bool,
) -> None:
    _, num_heads, head_dim = q.shape
    if slopes is not None:
        check_axes("attention_varlen", "slopes", slopes, (num_heads,))
    if bias_table is not None:
        check_axes("attention_varlen", "bias_table", bias_table, (num_heads, "2 * max_distance + 1"))
        if bias_table.shape[1] % 2 != 1:
            raise ValueError(
                "attention_varlen: bias_table must have an odd number of columns, one for each distance from "
                f"-max_distance to max_distance, got {bias_table.shape[1]}"
            )
    if (cos is None) != (sin is None):
        raise ValueError("attention_varlen: cos and sin must be given together, got only one of them")
    if cos is None or sin is None:
        if needs_tables:
            raise ValueError(
                "attention_varlen: interleaved and rotary_by_key are RoPE's, but cos and sin are not given"
            )
        return
    check_axes("attention_varlen", "cos", cos, ("max_position", "rotary_dim / 2"))
    check_axes("attention_varlen", "sin", sin, tuple(cos.shape))
    if not 1 <= cos.shape[1] <= head_dim // 2:
        raise ValueError(
            f"attention_varlen: cos must have from 1 to {head_dim // 2} columns (half of head_dim), got {cos.shape[1]}"
        )


def _check_rotary_range(cos: Array, lengths_q: np.ndarray, lengths_k: np.ndarray) -> None:
    if (longer := np.flatnonzero(lengths_k > cos.shape[0])).size:
        at = int(longer[0])
        raise ValueError(
            f"attention_varlen: cos has {cos.shape[0]} positions but sequence {at} has {lengths_k[at]} keys; "
            "make the tables longer or cut the sequence"
        )
    if (before := np.flatnonzero(lengths_q > lengths_k)).size:
        at = int(before[0])
        raise ValueError(
            f"attention_varlen: with cos and sin, no sequence may have more queries than keys, sequence {at} has "
            f"{lengths_q[at]} and {lengths_k[at]}"
        )


def _checked_window(window: tuple[int, int]) -> tuple[int, int]:
    """The same as Python's ints."""
    is_pair = isinstance(window, tuple) and len(window) == 2
    if not is_pair or not all(isinstance(side, (int, np.integer)) and side >= -1 for side in window):
        raise ValueError(
            f"attention_varlen: window must be two ints (left, right), each -1 (no limit) or more, got {window!r}"
        )
    left, right = window
    return int(left), int(right)


def key_limits(causal: bool, window: tuple[int, int] | None) -> tuple[int | None, int | None]:
    """How many keys before and after its own position a query sees; None is all."""
    left, right = (None if side < 0 else side for side in window or (-1, -1))
    return left, 0 if causal else right


def _attention_varlen_cpu(
    q: Array,
    k: Array,
    v: Array,
    cu_seqlens_q: Array,
    cu_seqlens_k: Array,
    *,
    slopes: Array | None,
    cos: Array | None,
    sin: Array | None,
    interleaved: bool,
    rotary_by_key: bool,
    bias_table: Array | None,
    causal: bool,
    window: tuple[int, int] | None,
    softmax_scale: float | None,
    dtype: str,
    out: Array | None,
) -> Array:
    op = "attention_varlen"
    inputs = (
        kernel_input(op, "q", q),
        kernel_input(op, "k", k),
        kernel_input(op, "v", v),
        kernel_input(op, "cu_seqlens_q", cu_seqlens_q),
        kernel_input(op, "cu_seqlens_k", cu_seqlens_k),
        kernel_input(op, "slopes", slopes),
        kernel_input(op, "cos", cos),
        kernel_input(op, "sin", sin),
        interleaved,
        kernel_input(op, "bias_table", bias_table),
        *key_limits(causal, window),
        q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale,
    )
    return run_kernel(
        op, lambda result: _core.attention_varlen(*inputs, result, dtype, rotary_by_key), tuple(q.shape), out, q
    )


def _attention_varlen_reference(q: Array, *args: Array, out: Array | None, **kwargs: object) -> Array:
    return run_reference("attention_varlen", reference.attention_varlen, q, *args, out=out, **kwargs)
