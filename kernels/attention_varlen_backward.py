"""The backward pass of attention_varlen on a GPU: one kernel for the keys' gradients, one for the queries'."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longspan.kernels.attention_varlen_forward import Options
from longspan.kernels.attention_varlen_kernel import bounds_of, edge_scores
from longspan.kernels.launch import LAUNCH, find_sequence, num_tiles, on_device, power_of_2
from longspan.kernels.rope import rope

BLOCK = 64  # rows of a tile of queries or keys; 32 in f32, whose products take more registers


@triton.jit
def _load_tile(x_ptr, rows, length, stride_t, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """(BLOCK, BLOCK_D) rows of a head; zeros outside."""
    d = tl.arange(0, BLOCK_D)
    mask = (rows < length)[:, None] & (d < HEAD_DIM)[None, :]
    return tl.load(x_ptr + rows.to(tl.int64)[:, None] * stride_t + d[None, :], mask=mask, other=0.0)


@triton.jit
def _store_tile(out_ptr, value, rows, length, stride_t, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    d = tl.arange(0, BLOCK_D)
    mask = (rows < length)[:, None] & (d < HEAD_DIM)[None, :]
    place = rows.to(tl.int64)[:, None] * stride_t + d[None, :]
    tl.store(out_ptr + place, value.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _weights_and_slopes(
    q, k, grad, v, lse, delta, i, j, len_k, scale, slope, table_ptr, reach, window_left, window_right
):
    """Softmax weights P (queries, keys), and the loss's gradient for the scores: P * (grad v^T - delta)."""
    scores = edge_scores(
        tl.dot(q, tl.trans(k), input_precision="ieee") * scale,
        i,
        j,
        None,
        len_k,
        slope,
        table_ptr,
        reach,
        window_left,
        window_right,
    )
    weights = tl.exp2(scores - lse[:, None])
    return weights, weights * (tl.dot(grad, tl.trans(v), input_precision="ieee") - delta[:, None])


# Gradients of a tile of keys: dv = P^T grad, dk = softmax_scale * dS^T q, summed over the query heads that share it.
#   q, grad (total_q, heads, head_dim) T   k, v (total_k, heads / GROUP, head_dim) T   lse, delta (heads, total_q) f32
#   grad_k, grad_v (total_k, heads / GROUP, head_dim) T, contiguous; q and k already rotated
# Grid (tiles of BLOCK keys, key heads); one program sums all that a key receives: no atomics, the same bits each time.
# FLOPs = 8 * heads * head_dim * pairs. Limit: tensor cores.
@triton.jit(do_not_specialize=["num_sequences", "stride_lse_h"])
def _attention_varlen_keys_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_ptr,
    lse_ptr,
    delta_ptr,
    grad_k_ptr,
    grad_v_ptr,
    cu_seqlens_q_ptr,
    cu_seqlens_k_ptr,
    slopes_ptr,
    table_ptr,
    num_sequences,
    softmax_scale,
    window_left,
    window_right,
    reach,
    stride_q_t,
    stride_q_h,
    stride_k_t,
    stride_k_h,
    stride_v_t,
    stride_v_h,
    stride_grad_t,
    stride_grad_h,
    stride_lse_h,
    stride_table_h,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sequence, tile = find_sequence(cu_seqlens_k_ptr, num_sequences, tl.program_id(0), BLOCK)
    start_k = tl.load(cu_seqlens_k_ptr + sequence).to(tl.int64)
    len_k = (tl.load(cu_seqlens_k_ptr + sequence + 1) - start_k).to(tl.int32)
    if tile * BLOCK >= len_k:
        return
    start_q = tl.load(cu_seqlens_q_ptr + sequence).to(tl.int64)
    len_q = (tl.load(cu_seqlens_q_ptr + sequence + 1) - start_q).to(tl.int32)
    shift = len_k - len_q
    kv_head = tl.program_id(1).to(tl.int64)
    j = tile * BLOCK + tl.arange(0, BLOCK)
    k = _load_tile(k_ptr + start_k * stride_k_t + kv_head * stride_k_h, j, len_k, stride_k_t, HEAD_DIM, BLOCK_D)
    v = _load_tile(v_ptr + start_k * stride_v_t + kv_head * stride_v_h, j, len_k, stride_v_t, HEAD_DIM, BLOCK_D)
    # The rows of queries that see some key of the tile.
    low_row, high_row = 0, len_q
    if window_right is not None:
        low_row = tl.minimum(tl.maximum(tile * BLOCK - window_right - shift, 0), len_q)
    if window_left is not None:
        high_row = tl.maximum(tl.minimum(tile * BLOCK + BLOCK + window_left - shift, len_q), 0)
    grad_k = tl.zeros((BLOCK, BLOCK_D), tl.float32)
    grad_v = tl.zeros((BLOCK, BLOCK_D), tl.float32)
    for member in range(0, GROUP):
        head = kv_head * GROUP + member
        slope = None
        if slopes_ptr is not None:
            slope = tl.load(slopes_ptr + head).to(tl.float32) * 1.4426950408889634
        table_h_ptr = None
        if table_ptr is not None:
            table_h_ptr = table_ptr + head * stride_table_h
        q_h_ptr = q_ptr + start_q * stride_q_t + head * stride_q_h
        grad_h_ptr = grad_ptr + start_q * stride_grad_t + head * stride_grad_h
        for block in range(low_row // BLOCK, tl.cdiv(high_row, BLOCK)):
            rows = block * BLOCK + tl.arange(0, BLOCK)
            q = _load_tile(q_h_ptr, rows, len_q, stride_q_t, HEAD_DIM, BLOCK_D)
            grad = _load_tile(grad_h_ptr, rows, len_q, stride_grad_t, HEAD_DIM, BLOCK_D)
            place = head * stride_lse_h + start_q + rows
            lse = tl.load(lse_ptr + place, mask=rows < len_q, other=float("inf"))
            delta = tl.load(delta_ptr + place, mask=rows < len_q, other=0.0)
            weights, slopes_of = _weights_and_slopes(
                q,
                k,
                grad,
                v,
                lse,
                delta,
                rows + shift,
                j,
                len_k,
                softmax_scale * 1.4426950408889634,
                slope,
                table_h_ptr,
                reach,
                window_left,
                window_right,
            )
            grad_v = tl.dot(tl.trans(weights.to(grad.dtype)), grad, grad_v, input_precision="ieee")
            grad_k = tl.dot(tl.trans(slopes_of.to(q.dtype)), q, grad_k, input_precision="ieee")
    stride_t = tl.num_programs(1) * HEAD_DIM
    place = start_k * stride_t + kv_head * HEAD_DIM
    _store_tile(grad_k_ptr + place, grad_k * softmax_scale, j, len_k, stride_t, HEAD_DIM, BLOCK_D)
    _store_tile(grad_v_ptr + place, grad_v, j, len_k, stride_t, HEAD_DIM, BLOCK_D)


# Gradients of a tile of queries: dq = softmax_scale * dS k. Shapes as above; grad_q (total_q, heads, head_dim) T.
# Grid (tiles of BLOCK queries, heads). FLOPs = 6 * heads * head_dim * pairs. Limit: tensor cores.
@triton.jit(do_not_specialize=["num_sequences", "stride_lse_h"])
def _attention_varlen_queries_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_ptr,
    lse_ptr,
    delta_ptr,
    grad_q_ptr,
    cu_seqlens_q_ptr,
    cu_seqlens_k_ptr,
    slopes_ptr,
    table_ptr,
    num_sequences,
    softmax_scale,
    window_left,
    window_right,
    reach,
    stride_q_t,
    stride_q_h,
    stride_k_t,
    stride_k_h,
    stride_v_t,
    stride_v_h,
    stride_grad_t,
    stride_grad_h,
    stride_lse_h,
    stride_table_h,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sequence, tile = find_sequence(cu_seqlens_q_ptr, num_sequences, tl.program_id(0), BLOCK)
    start_q = tl.load(cu_seqlens_q_ptr + sequence).to(tl.int64)
    len_q = (tl.load(cu_seqlens_q_ptr + sequence + 1) - start_q).to(tl.int32)
    if tile * BLOCK >= len_q:
        return
    start_k = tl.load(cu_seqlens_k_ptr + sequence).to(tl.int64)
    len_k = (tl.load(cu_seqlens_k_ptr + sequence + 1) - start_k).to(tl.int32)
    head = tl.program_id(1).to(tl.int64)
    rows = tile * BLOCK + tl.arange(0, BLOCK)
    low = tile * BLOCK + len_k - len_q
    q = _load_tile(q_ptr + start_q * stride_q_t + head * stride_q_h, rows, len_q, stride_q_t, HEAD_DIM, BLOCK_D)
    grad = _load_tile(
        grad_ptr + start_q * stride_grad_t + head * stride_grad_h, rows, len_q, stride_grad_t, HEAD_DIM, BLOCK_D
    )
    place = head * stride_lse_h + start_q + rows
    lse = tl.load(lse_ptr + place, mask=rows < len_q, other=float("inf"))
    delta = tl.load(delta_ptr + place, mask=rows < len_q, other=0.0)
    slope = None
    if slopes_ptr is not None:
        slope = tl.load(slopes_ptr + head).to(tl.float32) * 1.4426950408889634
    if table_ptr is not None:
        table_ptr += head * stride_table_h
    k_ptr += start_k * stride_k_t + head // GROUP * stride_k_h
    v_ptr += start_k * stride_v_t + head // GROUP * stride_v_h
    high = tl.minimum(low + BLOCK, len_k) - 1
    first, _full, _near, _far, _full_end, end = bounds_of(low, high, len_k, window_left, window_right, 0, False, BLOCK)
    grad_q = tl.zeros((BLOCK, BLOCK_D), tl.float32)
    for block in range(first, end):
        j = block * BLOCK + tl.arange(0, BLOCK)
        k = _load_tile(k_ptr, j, len_k, stride_k_t, HEAD_DIM, BLOCK_D)
        v = _load_tile(v_ptr, j, len_k, stride_v_t, HEAD_DIM, BLOCK_D)
        _weights, slopes_of = _weights_and_slopes(
            q,
            k,
            grad,
            v,
            lse,
            delta,
            rows + len_k - len_q,
            j,
            len_k,
            softmax_scale * 1.4426950408889634,
            slope,
            table_ptr,
            reach,
            window_left,
            window_right,
        )
        grad_q = tl.dot(slopes_of.to(k.dtype), k, grad_q, input_precision="ieee")
    stride_t = tl.num_programs(1) * HEAD_DIM
    out_ptr = grad_q_ptr + start_q * stride_t + head * HEAD_DIM
    _store_tile(out_ptr, grad_q * softmax_scale, rows, len_q, stride_t, HEAD_DIM, BLOCK_D)


def attend_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of q, k and v, from that of `out`; `lse` as the forward pass left it."""
    cos, sin = options.cos, options.sin
    how = {"interleaved": options.interleaved, "by_key": options.rotary_by_key}
    with on_device(q):
        if cos is not None and sin is not None:
            q = rope(q, cu_seqlens_q, cu_seqlens_k, cos, sin, **how)
            k = rope(k, cu_seqlens_k, cu_seqlens_k, cos, sin, **how)
        grads = _launch(grad, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, options)
        if cos is not None and sin is not None:
            back = {**how, "inverse": True}
            grad_q = rope(grads[0], cu_seqlens_q, cu_seqlens_k, cos, sin, **back)
            grads = (grad_q, rope(grads[1], cu_seqlens_k, cu_seqlens_k, cos, sin, **back), grads[2])
    return grads


def _launch(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad_q, grad_k, grad_v = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    num_sequences, num_heads, head_dim = cu_seqlens_q.shape[0] - 1, q.shape[1], q.shape[2]
    if num_sequences == 0 or q.shape[0] + k.shape[0] == 0:
        return grad_q, grad_k, grad_v
    delta = (out.float() * grad.float()).sum(-1).t().contiguous()  # (heads, total_q)
    table = options.bias_table
    settings = (
        options.slopes,
        table,
        num_sequences,
        options.softmax_scale,
        options.window_left,
        options.window_right,
        0 if table is None else table.shape[1] // 2,
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        *grad.stride()[:2],
        lse.stride(0),
        0 if table is None else table.stride(0),
        num_heads // k.shape[1],
        head_dim,
        power_of_2(head_dim, 16),
    )
    block = 32 if q.dtype == torch.float32 or head_dim > 128 else BLOCK
    inputs = (q, k, v, grad, lse, delta)
    offsets = (cu_seqlens_q, cu_seqlens_k)
    _attention_varlen_keys_kernel[(num_tiles(k.shape[0], num_sequences, block), k.shape[1])](
        *inputs, grad_k, grad_v, *offsets, *settings, BLOCK=block, num_warps=4, num_stages=2, **LAUNCH
    )
    _attention_varlen_queries_kernel[(num_tiles(q.shape[0], num_sequences, block), num_heads)](
        *inputs, grad_q, *offsets, *settings, BLOCK=block, num_warps=4, num_stages=2, **LAUNCH
    )
    return grad_q, grad_k, grad_v
