"""pool_logits on a GPU: a product whose tiles are pooled over each sequence's rows where they were made.

A tile of logits never leaves the chip: what is written are the largest of each sequence's rows of it, or their sums.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import Launcher, divided_up, fill, needs_dispatcher, on_device, rows_readable

SEARCH = tl.constexpr(256)  # offsets that one step looks at
LARGEST = tl.constexpr(3.4028234663852886e38)  # of f32
BLOCK = 1024  # values of a program that finishes them
TIMES = {None: 0, "log1p": 1, "log1p_twice": 2}  # that log1p is taken
GROUP = 8  # tiles of rows whose programs are neighbours: they read a tile of the weight from the L2 cache


@triton.jit
def saturated(u, SATURATION: tl.constexpr):
    """log(1 + max(u, 0)) of f32 values, as often as SATURATION says."""
    if SATURATION > 0:
        u = tl.maximum(u, 0.0)
        for _ in tl.static_range(SATURATION):
            # 2 artanh(u / (2 + u)) by its series where 1 + u would round u away: six terms suffice up to 1/4.
            s = u / (2.0 + u)
            q = s * s
            near = 0.2222222222222222 + q * 0.18181818181818182
            near = 2.0 + q * (0.6666666666666666 + q * (0.4 + q * (0.2857142857142857 + q * near)))
            u = tl.where(u < 0.25, s * near, tl.log(1.0 + u))
    return u


# pool_logits: out[s, v] = the largest over the rows t of sequence s of u[t, v], or the sum of f(u[t, v]);
#   u = x weight^T + bias.
#   x (total_tokens, dim) T   weight (out_features, dim) T   bias (out_features,) T
#   out (num_sequences, out_features) f32
# Grid (tiles of BLOCK_M packed rows * tiles of BLOCK_N outputs,), GROUP tiles of rows next to each other. A tile may
# hold rows of several sequences, and a sequence may have rows in several tiles: these meet by an atomic maximum, which
# knows no order, or an atomic sum. A logit that is no finite number is +infinity until the end.
# FLOPs = 2 * total_tokens * dim * out_features, and 2 for each logit of a tile and each sequence that has rows in it.
# Bytes from L2 = sizeof(T) * dim * total_tokens * out_features * (1 / BLOCK_M + 1 / BLOCK_N); from memory each tensor
# once, if it fits there, and 4 for each output and each tile in which its sequence has rows. Limit: tensor cores.
# Logits that are stored would be 4 * total_tokens * out_features bytes, written and read: of 16384 tokens of BERT's
# width over its vocabulary 2 GB, 1 ms of an H200 for both, beside 0.77 TFLOP, 1.1 ms at 700 TFLOP/s.
@triton.jit(do_not_specialize=["total", "num_sequences"])
def _pool_logits_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,  # or None
    cu_seqlens_ptr,
    out_ptr,
    total,
    num_sequences,
    out_features,
    dim,
    stride_x,
    stride_weight,
    IS_SUM: tl.constexpr,
    SATURATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
):
    program = tl.program_id(0)
    columns = tl.cdiv(out_features, BLOCK_N)
    first_tile = program // (GROUP * columns) * GROUP
    size = tl.minimum(tl.cdiv(total, BLOCK_M) - first_tile, GROUP)
    inner = program % (GROUP * columns)
    first = (first_tile + inner % size) * BLOCK_M
    row = first + tl.arange(0, BLOCK_M)
    column = inner // size * BLOCK_N + tl.arange(0, BLOCK_N)
    row_ok, column_ok = row < total, column < out_features

    x_place = x_ptr + row.to(tl.int64)[:, None] * stride_x
    weight_place = weight_ptr + column.to(tl.int64)[None, :] * stride_weight
    logits = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, dim, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        x = tl.load(x_place + k[None, :], mask=row_ok[:, None] & (k < dim)[None, :], other=0.0)
        weight = tl.load(weight_place + k[:, None], mask=column_ok[None, :] & (k < dim)[:, None], other=0.0)
        logits = tl.dot(x, weight, logits, input_precision="ieee")
    if bias_ptr is not None:
        logits += tl.load(bias_ptr + column, mask=column_ok, other=0.0).to(tl.float32)[None, :]
    logits = tl.where(tl.abs(logits) <= LARGEST, logits, float("inf"))
    if IS_SUM:
        logits = saturated(logits, SATURATION)

    # The sequences that have rows here: from the one that owns the first row to the one that owns the last.
    owner, last = 0, 0
    end = tl.minimum(first + BLOCK_M, total) - 1
    for start in range(0, num_sequences, SEARCH):
        s = start + tl.arange(0, SEARCH)
        ends = tl.load(cu_seqlens_ptr + s + 1, mask=s < num_sequences, other=2147483647)
        owner += tl.sum((ends <= first).to(tl.int32))
        last += tl.sum((ends <= end).to(tl.int32))
    for s in range(owner, last + 1):
        start_row, end_row = tl.load(cu_seqlens_ptr + s), tl.load(cu_seqlens_ptr + s + 1)
        own = (row >= start_row) & (row < end_row)
        place = out_ptr + tl.cast(s, tl.int64) * out_features + column
        if IS_SUM:
            tl.atomic_add(place, tl.sum(tl.where(own[:, None], logits, 0.0), axis=0), mask=column_ok, sem="relaxed")
        elif end_row > start_row:
            best = tl.max(tl.where(own[:, None], logits, float("-inf")), axis=0)
            tl.atomic_max(place, best + 0.0, mask=column_ok, sem="relaxed")  # + 0.0: a zero has no sign


POOL_LOGITS = Launcher(_pool_logits_kernel)


# pool_logits, at the end: f of the largest logits, in place; +infinity, the mark of what is not finite, becomes NaN.
#   out (n,) f32. Grid (ceil(n / BLOCK),). Bytes = 8 * n. Limit: memory.
@triton.jit(do_not_specialize=["n"])
def _finish_kernel(out_ptr, n, SATURATION: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(out_ptr + place, mask=place < n, other=0.0)
    value = tl.where(value == float("inf"), float("nan"), saturated(value, SATURATION))
    tl.store(out_ptr + place, value, mask=place < n)


FINISH = Launcher(_finish_kernel)


def tile_of(dtype: torch.dtype) -> tuple[tuple[int, int, int], int, int]:
    """Rows, outputs and depth of a tile, warps, and stages of its pipeline."""
    if dtype == torch.float32:
        return (64, 64, 16), 4, 2  # multiplied in f32, without tensor cores
    return (128, 128, 64), 8, 3


def launch_pool_logits(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    cu_seqlens: torch.Tensor,
    out: torch.Tensor,
    is_sum: bool,
    saturation: int,
) -> None:
    """On the current device, into `out`, contiguous; last axes of the others are contiguous."""
    out.fill_(0.0 if is_sum else -torch.inf)
    total, (num_sequences, out_features) = x.shape[0], out.shape
    if out.numel() == 0:
        return
    if total > 0:
        (block_m, block_n, block_k), warps, stages = tile_of(x.dtype)
        POOL_LOGITS(
            (divided_up(total, block_m) * divided_up(out_features, block_n),),
            (x, weight, bias, cu_seqlens, out),
            (total, num_sequences),
            (out_features, x.shape[1], x.stride(0), weight.stride(0)),
            (is_sum, saturation, block_m, block_n, block_k, GROUP),
            num_warps=warps,
            num_stages=stages,
        )
    n = out.numel()
    FINISH((divided_up(n, BLOCK),), (out,), (n,), (), (0 if is_sum else saturation, BLOCK), num_warps=4)


def _run(
    x: torch.Tensor,
    weight: torch.Tensor,
    cu_seqlens: torch.Tensor,
    bias: torch.Tensor | None,
    is_sum: bool,
    saturation: int,
) -> torch.Tensor:
    out = torch.empty((cu_seqlens.shape[0] - 1, weight.shape[0]), dtype=torch.float32, device=x.device)
    bias = None if bias is None else bias.contiguous()
    with on_device(x):
        rows = rows_readable(x), rows_readable(weight)
        launch_pool_logits(*rows, bias, cu_seqlens.contiguous(), out, is_sum, saturation)
    return out


@torch.library.custom_op("longspan::pool_logits", mutates_args=())
def _pool_logits_op(
    x: torch.Tensor,
    weight: torch.Tensor,
    cu_seqlens: torch.Tensor,
    bias: torch.Tensor | None,
    is_sum: bool,
    saturation: int,
) -> torch.Tensor:
    return _run(x, weight, cu_seqlens, bias, is_sum, saturation)


@_pool_logits_op.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor,
    cu_seqlens: torch.Tensor,
    bias: torch.Tensor | None,
    is_sum: bool,
    saturation: int,
) -> torch.Tensor:
    return x.new_empty((cu_seqlens.shape[0] - 1, weight.shape[0]), dtype=torch.float32)


def pool_logits(
    x: torch.Tensor,
    weight: torch.Tensor,
    cu_seqlens: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    pooling: str = "max",
    saturation: str | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `longspan.ops.pool_logits`, of x, weight and bias in one dtype, f32, f16 or bf16; products and all else are in
    f32, and sums come in any order. It has no gradient."""
    run = _pool_logits_op if needs_dispatcher((x, weight, cu_seqlens, bias)) else _run
    return fill(out, run(x, weight, cu_seqlens, bias, pooling == "sum", TIMES[saturation]))
