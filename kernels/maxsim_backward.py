"""The gradients of maxsim on a GPU: each query token's best document token, then sums in a fixed order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import LAUNCH, find_sequence, num_tiles, on_device
from longspan.kernels.maxsim_kernel import _TYPES, block_dim_of, load_part, products_of, type_of

BLOCK = 32


# The number of the document token that is each query token's maximum, the first of equal ones.
#   best (num_docs, total_q) int32, rows of d
# Grid (num_docs, ceil(total_q / BLOCK)). FLOPs and bytes as maxsim.
@triton.jit(do_not_specialize=["total_q", "stride_best"])
def _maxsim_best_kernel(
    q_ptr,
    d_ptr,
    scales_ptr,
    cu_seqlens_d_ptr,
    best_ptr,
    total_q,
    dim,
    stride_q,
    stride_d,
    stride_best,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    q_rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    q_ok = q_rows < total_q
    doc = tl.program_id(0).to(tl.int64)
    start_d = tl.load(cu_seqlens_d_ptr + doc)
    len_d = tl.load(cu_seqlens_d_ptr + doc + 1) - start_d
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    place = tl.zeros((BLOCK,), tl.int32) + start_d
    for block in range(0, tl.cdiv(len_d, BLOCK)):
        j = block * BLOCK + tl.arange(0, BLOCK)
        d_ok = j < len_d
        products = products_of(
            None, q_ptr, q_rows, q_ok, d_ptr, start_d + j, d_ok, scales_ptr, dim, stride_q, stride_d, TYPE, BLOCK_DIM
        )
        value, at = tl.max(tl.where(d_ok[:, None], products, float("-inf")), axis=0, return_indices=True)
        place = tl.where(value > best, start_d + block * BLOCK + at, place)
        best = tl.maximum(best, value)
    tl.store(best_ptr + doc * stride_best + q_rows, place, mask=q_ok)


# grad_q[i] = sum over documents b of grad[query of i, b] * d[best[b, i]].
# Grid (ceil(total_q / BLOCK), ceil(dim / BLOCK_DIM)). Bytes = sizeof(T) * total_q * num_docs * dim, gathered.
@triton.jit(do_not_specialize=["total_q", "num_docs", "stride_grad_q", "stride_best"])
def _maxsim_queries_kernel(
    grad_ptr,
    d_ptr,
    scales_ptr,
    best_ptr,
    query_of_ptr,
    grad_q_ptr,
    total_q,
    num_docs,
    dim,
    stride_grad_q,
    stride_grad_d,
    stride_d,
    stride_best,
    stride_grad_q_t,
    BLOCK: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row_ok = row < total_q
    first = tl.program_id(1) * BLOCK_DIM
    query = tl.load(query_of_ptr + row, mask=row_ok, other=0).to(tl.int64)
    sums = tl.zeros((BLOCK, BLOCK_DIM), tl.float32)
    for number in range(0, num_docs):
        doc = tl.cast(number, tl.int64)
        at = tl.load(best_ptr + doc * stride_best + row, mask=row_ok, other=0)
        grad = tl.load(grad_ptr + query * stride_grad_q + doc * stride_grad_d, mask=row_ok, other=0.0)
        if scales_ptr is not None:
            grad *= tl.load(scales_ptr + at, mask=row_ok, other=0.0)
        sums += grad[:, None] * load_part(d_ptr, at, row_ok, first, dim, stride_d, tl.float32, BLOCK_DIM)
    k = first + tl.arange(0, BLOCK_DIM)
    place = row.to(tl.int64)[:, None] * stride_grad_q_t + k[None, :]
    tl.store(grad_q_ptr + place, sums.to(grad_q_ptr.dtype.element_ty), mask=row_ok[:, None] & (k < dim)[None, :])


# grad_d[j] = sum over the query tokens i whose best in j's document b is j, of grad[query of i, b] * q[i].
# Grid (tiles of BLOCK document tokens, ceil(dim / BLOCK_DIM)). FLOPs = 2 * total_d * total_q * dim.
@triton.jit(do_not_specialize=["total_q", "num_docs", "stride_grad_q", "stride_best"])
def _maxsim_docs_kernel(
    grad_ptr,
    q_ptr,
    best_ptr,
    query_of_ptr,
    cu_seqlens_d_ptr,
    grad_d_ptr,
    total_q,
    num_docs,
    dim,
    stride_grad_q,
    stride_grad_d,
    stride_q,
    stride_best,
    stride_grad_d_t,
    BLOCK: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    doc, tile = find_sequence(cu_seqlens_d_ptr, num_docs, tl.program_id(0), BLOCK)
    j = tl.load(cu_seqlens_d_ptr + doc) + tile * BLOCK + tl.arange(0, BLOCK)
    j_ok = j < tl.load(cu_seqlens_d_ptr + doc + 1)
    doc = doc.to(tl.int64)
    first = tl.program_id(1) * BLOCK_DIM
    sums = tl.zeros((BLOCK, BLOCK_DIM), tl.float32)
    for block in range(0, tl.cdiv(total_q, BLOCK)):
        row = block * BLOCK + tl.arange(0, BLOCK)
        row_ok = row < total_q
        at = tl.load(best_ptr + doc * stride_best + row, mask=row_ok, other=-1)
        query = tl.load(query_of_ptr + row, mask=row_ok, other=0).to(tl.int64)
        grad = tl.load(grad_ptr + query * stride_grad_q + doc * stride_grad_d, mask=row_ok, other=0.0)
        chosen = tl.where(at[None, :] == j[:, None], grad[None, :], 0.0)
        q = load_part(q_ptr, row, row_ok, first, dim, stride_q, tl.float32, BLOCK_DIM)
        sums = tl.dot(chosen, q, sums, input_precision="ieee")
    k = first + tl.arange(0, BLOCK_DIM)
    place = j.to(tl.int64)[:, None] * stride_grad_d_t + k[None, :]
    tl.store(grad_d_ptr + place, sums.to(grad_d_ptr.dtype.element_ty), mask=j_ok[:, None] & (k < dim)[None, :])


def launch_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_d: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of q and d from that of the scores (num_queries, num_docs) f32; d's is empty where it is int8."""
    (total_q, dim), num_docs = q.shape, cu_seqlens_d.shape[0] - 1
    num_queries = cu_seqlens_q.shape[0] - 1
    best = torch.empty((num_docs, total_q), dtype=torch.int32, device=q.device)
    grad_q = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    grad_d = d.new_zeros(
        d.shape if d.is_floating_point() else (0, dim), dtype=q.dtype if scales is not None else d.dtype
    )
    if total_q == 0 or num_docs == 0:
        return grad_q, grad_d
    lengths = cu_seqlens_q[1:] - cu_seqlens_q[:-1]
    numbers = torch.arange(num_queries, dtype=torch.int32, device=q.device)
    query_of = torch.repeat_interleave(numbers, lengths, output_size=total_q)
    row_blocks, block_dim = triton.cdiv(total_q, BLOCK), min(64, block_dim_of(dim)[0])
    column_blocks = triton.cdiv(dim, block_dim)
    how = {"BLOCK": BLOCK, "BLOCK_DIM": block_dim, "num_warps": 4, "num_stages": 2, **LAUNCH}
    grads, best_stride = (num_docs, dim, *grad.stride()), best.stride(0)
    with on_device(q):
        _maxsim_best_kernel[(num_docs, row_blocks)](
            q, d, scales, cu_seqlens_d, best, total_q, dim, q.stride(0), d.stride(0), best_stride,
            TYPE=_TYPES[type_of(q, d)], **how,
        )  # fmt: skip
        _maxsim_queries_kernel[(row_blocks, column_blocks)](
            grad, d, scales, best, query_of, grad_q, total_q, *grads, d.stride(0), best_stride, grad_q.stride(0), **how
        )
        if d.is_floating_point():
            _maxsim_docs_kernel[(num_tiles(d.shape[0], num_docs, BLOCK), column_blocks)](
                grad, q, best, query_of, cu_seqlens_d, grad_d, total_q, *grads, q.stride(0), best_stride,
                grad_d.stride(0), **how,
            )  # fmt: skip
    return grad_q, grad_d
