"""retrofit_step and group_sums on a GPU: sums of rows that lie anywhere."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import LAUNCH, fill, on_device, rows_readable

BLOCK_DIM = 128  # columns of a program
BLOCK_TERMS = 16  # rows it has in flight
PROGRAMS = 2048  # some for each multiprocessor: with fewer groups than that, each is cut into parts
MAX_PARTS = 256


# The sum of weights[k] * scale[indices[k]] * rows[indices[k]] over k in [first, last), added to `total`.
#   rows (n, dim) f32, `stride_row` apart   indices, weights: of all terms   scale (n,) f32 or not there
# BLOCK_TERMS running sums a column, added at the end: an order that depends on the number of terms alone.
@triton.jit
def _gathered(
    rows_ptr, indices_ptr, weights_ptr, scale_ptr, first, last, stride_row, column, in_row,
    HAS_SCALE: tl.constexpr, BLOCK_TERMS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    sums = tl.zeros((BLOCK_TERMS, BLOCK_DIM), tl.float32)
    for start in range(first, last, BLOCK_TERMS):
        term = start + tl.arange(0, BLOCK_TERMS)
        is_term = term < last
        row = tl.load(indices_ptr + term, mask=is_term, other=0).to(tl.int64)
        weight = tl.load(weights_ptr + term, mask=is_term, other=0.0)
        if HAS_SCALE:
            weight *= tl.load(scale_ptr + row, mask=is_term, other=0.0)
        place = row[:, None] * stride_row + column[None, :]
        sums += weight[:, None] * tl.load(rows_ptr + place, mask=is_term[:, None] & in_row[None, :], other=0.0)
    return tl.sum(sums, axis=0)


# retrofit_step: one row of the result a program and block of columns.
#   vectors (n, dim) f32, base (rows, dim) f32, sums (groups, dim) f32 -> out (rows, dim) f32
#   squares (column blocks, rows) f32: the sum of the squares of what each program wrote
# Grid (rows, ceil(dim / BLOCK_DIM)). Bytes = 4 * dim * (non-zeros + corrections + 2 * rows) + 8 * non-zeros,
# FLOPs = 2 * dim * (non-zeros + corrections): 0.5 a byte. Limit: memory, by how many rows are in flight.
@triton.jit(do_not_specialize=["num_rows"])
def _retrofit_step_kernel(
    vectors_ptr, indptr_ptr, indices_ptr, weights_ptr, base_ptr, anchor_ptr, sums_ptr, sum_indptr_ptr, sum_indices_ptr,
    sum_weights_ptr, scale_ptr, divisor_ptr, squares_ptr, out_ptr, dim, num_rows, stride_vectors, stride_base,
    stride_sums, stride_out,
    HAS_BASE: tl.constexpr, HAS_SUMS: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_DIVISOR: tl.constexpr,
    HAS_SQUARES: tl.constexpr, BLOCK_TERMS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    in_row = column < dim
    first, last = tl.load(indptr_ptr + row), tl.load(indptr_ptr + row + 1)
    total = _gathered(
        vectors_ptr, indices_ptr, weights_ptr, scale_ptr, first, last, stride_vectors, column, in_row,
        HAS_SCALE, BLOCK_TERMS, BLOCK_DIM,
    )  # fmt: skip
    if HAS_SUMS:
        first, last = tl.load(sum_indptr_ptr + row), tl.load(sum_indptr_ptr + row + 1)
        total += _gathered(
            sums_ptr, sum_indices_ptr, sum_weights_ptr, scale_ptr, first, last, stride_sums, column, in_row,
            False, BLOCK_TERMS, BLOCK_DIM,
        )  # fmt: skip
    if HAS_BASE:
        anchor = tl.load(anchor_ptr + row + tl.zeros_like(column))
        is_read = in_row & (anchor != 0.0)  # a row that counts for nothing may hold anything
        total += anchor * tl.load(base_ptr + row * stride_base + column, mask=is_read, other=0.0)
    if HAS_DIVISOR:
        total = tl.div_rn(total, tl.load(divisor_ptr + row))
    tl.store(out_ptr + row * stride_out + column, total, mask=in_row)
    if HAS_SQUARES:
        tl.store(squares_ptr + tl.program_id(1).to(tl.int64) * num_rows + row, tl.sum(total * total))


# group_sums, first step: parts of each group's sum, in f64.
#   vectors (n, dim) f32   out (parts, groups, dim) f64
# Grid (groups, ceil(dim / BLOCK_DIM), parts). Bytes = 4 * dim * members. Limit: memory.
@triton.jit
def _group_sums_kernel(
    vectors_ptr, indptr_ptr, indices_ptr, scale_ptr, out_ptr, dim, stride_vectors, stride_part, stride_group,
    HAS_SCALE: tl.constexpr, BLOCK_TERMS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    group, part = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    in_row = column < dim
    start, end = tl.load(indptr_ptr + group), tl.load(indptr_ptr + group + 1)
    length = tl.cdiv(tl.cdiv(end - start, BLOCK_TERMS), tl.num_programs(2)) * BLOCK_TERMS
    first = start + part * length
    last = tl.minimum(first + length, end)
    sums = tl.zeros((BLOCK_TERMS, BLOCK_DIM), tl.float64)
    for begin in range(first, last, BLOCK_TERMS):
        term = begin + tl.arange(0, BLOCK_TERMS)
        is_term = term < last
        row = tl.load(indices_ptr + term, mask=is_term, other=0).to(tl.int64)
        place = row[:, None] * stride_vectors + column[None, :]
        values = tl.load(vectors_ptr + place, mask=is_term[:, None] & in_row[None, :], other=0.0)
        if HAS_SCALE:
            values *= tl.load(scale_ptr + row, mask=is_term, other=0.0)[:, None]
        sums += values.to(tl.float64)
    tl.store(out_ptr + part * stride_part + group * stride_group + column, tl.sum(sums, axis=0), mask=in_row)


def retrofit_step(
    vectors: torch.Tensor,
    indptr: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
    *,
    base: torch.Tensor | None,
    anchor: torch.Tensor | None,
    sums: torch.Tensor | None,
    sum_indptr: torch.Tensor | None,
    sum_indices: torch.Tensor | None,
    sum_weights: torch.Tensor | None,
    scale: torch.Tensor | None,
    divisor: torch.Tensor | None,
    squares: torch.Tensor | None,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """As `longspan.ops.retrofit_step`."""
    rows, dim = indptr.shape[0] - 1, vectors.shape[1]
    result = torch.empty((rows, dim), dtype=torch.float32, device=vectors.device)
    blocks = triton.cdiv(dim, BLOCK_DIM)
    if rows == 0 or dim == 0:
        return fill(out, result)
    partial = torch.empty((blocks, rows) if squares is not None else (1, 1), device=vectors.device)
    vectors = rows_readable(vectors)
    base = vectors if base is None else rows_readable(base)
    sums_read = vectors if sums is None else rows_readable(sums)
    with on_device(vectors):
        _retrofit_step_kernel[(rows, blocks)](
            vectors,
            indptr.contiguous(),
            indices.contiguous(),
            weights.contiguous(),
            base,
            weights if anchor is None else anchor.contiguous(),
            sums_read,
            indptr if sum_indptr is None else sum_indptr.contiguous(),
            indices if sum_indices is None else sum_indices.contiguous(),
            weights if sum_weights is None else sum_weights.contiguous(),
            weights if scale is None else scale.contiguous(),
            weights if divisor is None else divisor.contiguous(),
            partial,
            result,
            dim,
            rows,
            vectors.stride(0),
            base.stride(0),
            sums_read.stride(0),
            result.stride(0),
            HAS_BASE=anchor is not None,
            HAS_SUMS=sums is not None,
            HAS_SCALE=scale is not None,
            HAS_DIVISOR=divisor is not None,
            HAS_SQUARES=squares is not None,
            BLOCK_TERMS=BLOCK_TERMS,
            BLOCK_DIM=BLOCK_DIM,
            num_warps=4,
            **LAUNCH,
        )
    if squares is not None:
        squares += partial.double().sum(0)
    return fill(out, result)


def group_sums(
    vectors: torch.Tensor,
    indptr: torch.Tensor,
    indices: torch.Tensor,
    *,
    scale: torch.Tensor | None,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """As `longspan.ops.group_sums`."""
    groups, dim = indptr.shape[0] - 1, vectors.shape[1]
    blocks = triton.cdiv(dim, BLOCK_DIM)
    if groups == 0 or dim == 0:
        return fill(out, torch.zeros((groups, dim), device=vectors.device))
    vectors = rows_readable(vectors)
    most = max(1, indices.shape[0] // (4 * BLOCK_TERMS))  # parts beyond that have too little to do
    parts = max(1, min(MAX_PARTS, most, PROGRAMS // (groups * blocks)))
    found = torch.empty((parts, groups, dim), dtype=torch.float64, device=vectors.device)
    with on_device(vectors):
        _group_sums_kernel[(groups, blocks, parts)](
            vectors,
            indptr.contiguous(),
            indices.contiguous(),
            vectors if scale is None else scale.contiguous(),
            found,
            dim,
            vectors.stride(0),
            found.stride(0),
            found.stride(1),
            HAS_SCALE=scale is not None,
            BLOCK_TERMS=BLOCK_TERMS,
            BLOCK_DIM=BLOCK_DIM,
            num_warps=4,
            **LAUNCH,
        )
    return fill(out, found.sum(0).float())
