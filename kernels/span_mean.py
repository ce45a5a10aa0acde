"""span_mean on a GPU: means of rows that lie next to each other, and their gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import (
    LAUNCH,
    Launcher,
    fill,
    needs_dispatcher,
    on_device,
    power_of_2,
    rows_readable,
)

BLOCK_DIM = 128  # columns of a program
BLOCK_ROWS = 32  # rows it has in flight
PROGRAMS = 1024  # some for each multiprocessor: with fewer spans than that, each is cut into parts
MAX_PARTS = 64
SMALLEST_NORM = 1e-12  # as in longspan.reference.span_mean


# span_mean, first step: sums of the parts of each span, divided by the span's length.
#   hidden (total_tokens, dim) T   starts, ends: int32, `stride_span` apart
#   out (parts, num_spans, width) f32, contiguous
# Grid (num_spans, ceil(width / BLOCK_DIM), parts). Sums are f32, BLOCK_ROWS running ones a column: a fixed order.
# Bytes = sizeof(T) * width * (sum of lengths), 4 * width * num_spans written; FLOPs = width * (sum of lengths).
# Limit: memory.
@triton.jit(do_not_specialize=["num_spans"])
def _span_mean_kernel(
    hidden_ptr,
    starts_ptr,
    ends_ptr,
    out_ptr,
    num_spans,
    width,
    stride_span,
    stride_hidden_t,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    span = tl.program_id(0).to(tl.int64)
    part, parts = tl.program_id(2), tl.num_programs(2)
    start = tl.load(starts_ptr + span * stride_span)
    length = tl.load(ends_ptr + span * stride_span) - start
    blocks = tl.cdiv(tl.cdiv(length, BLOCK_ROWS), parts)
    column = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    in_row = column < width
    sums = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
    for block in range(part * blocks, (part + 1) * blocks):
        row = block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        place = (start + row).to(tl.int64)[:, None] * stride_hidden_t + column[None, :]
        sums += tl.load(hidden_ptr + place, mask=(row < length)[:, None] & in_row[None, :], other=0.0).to(tl.float32)
    mean = tl.div_rn(tl.sum(sums, axis=0), tl.maximum(length, 1).to(tl.float32))
    tl.store(out_ptr + (tl.cast(part, tl.int64) * num_spans + span) * width + column, mean, mask=in_row)


SPAN_MEAN = Launcher(_span_mean_kernel)


# span_mean, second step: the parts' sum, brought to unit length if asked for.
#   parts (num_parts, num_spans, width) f32   out (num_spans, width) f32, both contiguous
# Grid (num_spans,). Bytes = 4 * num_spans * width * (num_parts + 1). Limit: memory.
@triton.jit(do_not_specialize=["num_parts", "num_spans"])
def _join_parts_kernel(
    parts_ptr,
    out_ptr,
    num_parts,
    num_spans,
    width,
    smallest_norm,
    NORMALIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    span = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    in_row = column < width
    mean = tl.zeros((BLOCK,), tl.float32)
    for part in range(0, num_parts):
        place = (tl.cast(part, tl.int64) * num_spans + span) * width + column
        mean += tl.load(parts_ptr + place, mask=in_row, other=0.0)
    if NORMALIZE:
        mean = tl.div_rn(mean, tl.maximum(tl.sqrt_rn(tl.sum(mean * mean)), smallest_norm))
    tl.store(out_ptr + span * width + column, mean, mask=in_row)


JOIN_PARTS = Launcher(_join_parts_kernel)


# The gradient of span_mean's rows: each token's sum, over the spans that cover it, of their row over their length.
#   grad (num_spans, width) f32, spans' lengths already divided out   out (total_tokens, dim) T
# Grid (ceil(total_tokens / BLOCK_ROWS), ceil(dim / BLOCK_DIM)). All spans are looked at, BLOCK_SPANS at a time, and
# added in their order: no atomics, the same bits each time.
# Bytes = sizeof(T) * total_tokens * dim, grad from cache as often as spans cover a tile. Limit: memory.
@triton.jit(do_not_specialize=["num_spans", "total_tokens"])
def _span_mean_backward_kernel(
    grad_ptr,
    spans_ptr,
    out_ptr,
    num_spans,
    total_tokens,
    width,
    dim,
    stride_grad_s,
    stride_span,
    stride_out_t,
    BLOCK_SPANS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    first = tl.program_id(0) * BLOCK_ROWS
    token = first + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    sums = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
    for block in range(0, tl.cdiv(num_spans, BLOCK_SPANS)):
        span = block * BLOCK_SPANS + tl.arange(0, BLOCK_SPANS)
        start = tl.load(spans_ptr + span * stride_span, mask=span < num_spans, other=0)
        end = tl.load(spans_ptr + span * stride_span + 1, mask=span < num_spans, other=0)
        if tl.max(((start < first + BLOCK_ROWS) & (end > first)).to(tl.int32)) > 0:
            place = span.to(tl.int64)[:, None] * stride_grad_s + column[None, :]
            grad = tl.load(grad_ptr + place, mask=(span < num_spans)[:, None] & (column < width)[None, :], other=0.0)
            covers = (token[:, None] >= start[None, :]) & (token[:, None] < end[None, :])
            sums = tl.dot(covers.to(tl.float32), grad, sums, input_precision="ieee")
    place = token.to(tl.int64)[:, None] * stride_out_t + column[None, :]
    mask = (token < total_tokens)[:, None] & (column < dim)[None, :]
    tl.store(out_ptr + place, sums.to(out_ptr.dtype.element_ty), mask=mask)


def means_of(
    hidden: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, width: int, normalize: bool
) -> torch.Tensor:
    """(len(starts), width) f32: zeros for an empty span; `starts` and `ends` are int32 views with one stride."""
    num_spans = starts.shape[0]
    out = torch.empty((num_spans, width), dtype=torch.float32, device=hidden.device)
    if num_spans == 0:
        return out
    column_blocks = triton.cdiv(width, BLOCK_DIM)
    longest = max(1, hidden.shape[0] // (4 * BLOCK_ROWS))  # parts beyond that have too little to do
    parts = max(1, min(MAX_PARTS, longest, PROGRAMS // (num_spans * column_blocks)))
    joins = parts > 1 or normalize
    sums = torch.empty((parts, num_spans, width), dtype=torch.float32, device=hidden.device) if joins else out[None]
    with on_device(hidden):
        numbers = (width, starts.stride(0), hidden.stride(0))
        grid, constants = (num_spans, column_blocks, parts), (BLOCK_ROWS, BLOCK_DIM)
        SPAN_MEAN(grid, (hidden, starts, ends, sums), (num_spans,), numbers, constants, num_warps=4)
        if joins:
            how = (width, SMALLEST_NORM), (normalize, power_of_2(width, 16))
            JOIN_PARTS((num_spans,), (sums, out), (parts, num_spans), *how, num_warps=4)
    return out


@torch.library.custom_op("longspan::span_mean", mutates_args=())
def _span_mean_op(hidden: torch.Tensor, spans: torch.Tensor, width: int, normalize: bool) -> torch.Tensor:
    spans = spans.contiguous()
    return means_of(rows_readable(hidden), spans[:, 0], spans[:, 1], width, normalize)


@_span_mean_op.register_fake
def _(hidden: torch.Tensor, spans: torch.Tensor, width: int, normalize: bool) -> torch.Tensor:
    return hidden.new_empty((spans.shape[0], width), dtype=torch.float32)


@torch.library.custom_op("longspan::span_mean_backward", mutates_args=())
def _span_mean_backward_op(
    grad: torch.Tensor, hidden: torch.Tensor, spans: torch.Tensor, normalize: bool
) -> torch.Tensor:
    spans, (total, dim), width = spans.contiguous(), hidden.shape, grad.shape[1]
    grad = grad.float()
    if normalize:
        means = means_of(rows_readable(hidden), spans[:, 0], spans[:, 1], width, False)
        lengths = means.norm(dim=1, keepdim=True)
        units = means / lengths.clamp_min(SMALLEST_NORM)
        along = torch.where(lengths > SMALLEST_NORM, (units * grad).sum(1, keepdim=True), 0)
        grad = (grad - units * along) / lengths.clamp_min(SMALLEST_NORM)
    grad = (grad / (spans[:, 1] - spans[:, 0]).clamp_min(1)[:, None]).contiguous()
    out = torch.empty((total, dim), dtype=hidden.dtype, device=hidden.device)
    if total == 0:
        return out
    with on_device(hidden):
        _span_mean_backward_kernel[(triton.cdiv(total, BLOCK_ROWS), triton.cdiv(dim, BLOCK_DIM))](
            grad,
            spans,
            out,
            spans.shape[0],
            total,
            width,
            dim,
            grad.stride(0),
            spans.stride(0),
            out.stride(0),
            BLOCK_SPANS=32,
            BLOCK_ROWS=BLOCK_ROWS,
            BLOCK_DIM=BLOCK_DIM,
            num_warps=4,
            num_stages=2,
            **LAUNCH,
        )
    return out


@_span_mean_backward_op.register_fake
def _(grad: torch.Tensor, hidden: torch.Tensor, spans: torch.Tensor, normalize: bool) -> torch.Tensor:
    return torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: torch.Tensor) -> None:
    hidden, spans, _width, ctx.normalize = inputs
    ctx.save_for_backward(hidden, spans)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor) -> tuple[object, ...]:
    return _span_mean_backward_op(grad, *ctx.saved_tensors, ctx.normalize), None, None, None


_span_mean_op.register_autograd(_backward, setup_context=_keep)


def span_mean(
    hidden: torch.Tensor, spans: torch.Tensor, *, truncate_dim: int | None, normalize: bool, out: torch.Tensor | None
) -> torch.Tensor:
    """As `longspan.ops.span_mean`, of f32, f16 or bf16 rows; the means are f32. Differentiable in `hidden`."""
    width = truncate_dim or hidden.shape[1]
    if needs_dispatcher((hidden, spans, out)):
        return fill(out, _span_mean_op(hidden, spans, width, normalize))
    spans = spans.contiguous()
    return fill(out, means_of(rows_readable(hidden), spans[:, 0], spans[:, 1], width, normalize))
