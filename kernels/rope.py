"""RoPE for packed rows: rotation on load for other kernels, and a kernel that rotates a whole tensor once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import LAUNCH, Launcher, divided_up, find_sequence, num_tiles, on_device, power_of_2

ROWS = 64  # of a program's tile
IN_PLACE = 2048  # pairs that a program of the kernel in place holds


@triton.jit
def load_rows(
    x_ptr,  # at the sequence's first row and the head
    rows,  # (BLOCK,) within the sequence
    num_rows,
    stride_x_t,
    cos_ptr,  # (max_position, HALF), rows of the tables; None: nothing is rotated
    sin_ptr,
    positions,  # (BLOCK,) of the rows
    table_start,  # row of the tables for position 0
    max_position,
    stride_cos,
    HALF: tl.constexpr,  # of the rotated values: rotary_dim / 2
    INTERLEAVED: tl.constexpr,
    INVERSE: tl.constexpr,  # rotate backwards, as gradients do
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """(BLOCK, BLOCK_D) rows of a head, rotated; zeros outside. Each value meets its partner by a second load, which
    the first one has brought to the L1 cache."""
    d = tl.arange(0, BLOCK_D)
    row_ok = (rows < num_rows)[:, None]
    row_ptr = x_ptr + rows.to(tl.int64)[:, None] * stride_x_t
    x = tl.load(row_ptr + d[None, :], mask=row_ok & (d < HEAD_DIM)[None, :], other=0.0)
    if cos_ptr is not None:
        if INTERLEAVED:
            pair, partner, is_first = d // 2, d ^ 1, d % 2 == 0
        else:
            is_first = d < HALF
            pair, partner = tl.where(is_first, d, d - HALF), tl.where(is_first, d + HALF, d - HALF)
        # A position outside the tables belongs to no key: the caller's lengths are wrong, and nothing is read.
        known = (
            row_ok & ((positions >= 0) & (positions + table_start < max_position))[:, None] & (d < 2 * HALF)[None, :]
        )
        other = tl.load(row_ptr + partner[None, :], mask=known, other=0.0).to(tl.float32)
        angle = (positions + table_start).to(tl.int64)[:, None] * stride_cos + pair[None, :]
        cos = tl.load(cos_ptr + angle, mask=known, other=1.0).to(tl.float32)
        sin = tl.load(sin_ptr + angle, mask=known, other=0.0).to(tl.float32)
        if INVERSE:
            sin = -sin
        x = (x.to(tl.float32) * cos + tl.where(is_first, -1.0, 1.0)[None, :] * other * sin).to(x.dtype)
    return x


# rope: the rows of packed sequences, each rotated by its place.
#   x, out (total, heads, head_dim) T   cos, sin (max_position, HALF)
# Grid (tiles of BLOCK rows, heads). Rows of x end where `cu_seqlens_end` says that the positions end.
# Bytes = 2 * sizeof(T) * total * heads * head_dim, and the tables from cache; FLOPs 3 a value. Limit: memory.
@triton.jit(do_not_specialize=["num_sequences", "max_position"])
def _rope_kernel(
    x_ptr,
    out_ptr,
    cu_seqlens_ptr,
    cu_seqlens_end_ptr,
    cos_ptr,
    sin_ptr,
    num_sequences,
    max_position,
    stride_x_t,
    stride_x_h,
    stride_out_t,
    stride_out_h,
    stride_cos,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    INVERSE: tl.constexpr,
    BY_KEY: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sequence, tile = find_sequence(cu_seqlens_ptr, num_sequences, tl.program_id(0), BLOCK)
    start = tl.load(cu_seqlens_ptr + sequence)
    length = tl.load(cu_seqlens_ptr + sequence + 1) - start
    if tile * BLOCK >= length:
        return
    start_end = tl.load(cu_seqlens_end_ptr + sequence)
    positions_end = tl.load(cu_seqlens_end_ptr + sequence + 1) - start_end
    table_start = 0
    if BY_KEY:
        table_start = start_end
    rows = tile * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(1).to(tl.int64)
    x = load_rows(
        x_ptr + start.to(tl.int64) * stride_x_t + head * stride_x_h,
        rows,
        length,
        stride_x_t,
        cos_ptr,
        sin_ptr,
        rows + positions_end - length,
        table_start,
        max_position,
        stride_cos,
        HALF,
        INTERLEAVED,
        INVERSE,
        HEAD_DIM,
        BLOCK_D,
    )
    d = tl.arange(0, BLOCK_D)
    place = (start + rows).to(tl.int64)[:, None] * stride_out_t + head * stride_out_h + d[None, :]
    tl.store(out_ptr + place, x, mask=(rows < length)[:, None] & (d < HEAD_DIM)[None, :])


def rope(
    x: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_end: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    interleaved: bool,
    by_key: bool = False,
    inverse: bool = False,
) -> torch.Tensor:
    """The rows of `x` (total, heads, head_dim) rotated by their positions, or back again.

    A sequence's last row stands where the same sequence of `cu_seqlens_end` has its last one. With `by_key` the tables
    have a row for each row of `cu_seqlens_end`, else one for each position in a sequence.
    """
    total, heads, head_dim = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    num_sequences = cu_seqlens.shape[0] - 1
    if total == 0 or num_sequences == 0:
        return out
    with on_device(x):
        _rope_kernel[(num_tiles(total, num_sequences, ROWS), heads)](
            x,
            out,
            cu_seqlens,
            cu_seqlens_end,
            cos,
            sin,
            num_sequences,
            cos.shape[0],
            x.stride(0),
            x.stride(1),
            out.stride(0),
            out.stride(1),
            cos.stride(0),
            HALF=cos.shape[1],
            INTERLEAVED=interleaved,
            INVERSE=inverse,
            BY_KEY=by_key,
            HEAD_DIM=head_dim,
            BLOCK_D=power_of_2(head_dim, 16),
            BLOCK=ROWS,
            num_warps=4,
            **LAUNCH,
        )
    return out


# rotate: RoPE in place, q and k of a fused projection at once.
#   x (total, heads, head_dim) T, of which HALF pairs a head are rotated   positions (total,) int32, None: 0, 1, 2 ...
#   cos, sin (max_position, HALF)
# Grid (ceil(total / ROWS), ceil(heads / HEADS)): each program holds the pairs that it writes, so nothing is read after
# it was written; the tables' values are read once for HEADS heads.
# Bytes = 4 * sizeof(T) * total * heads * HALF, and the tables from cache; FLOPs 6 a pair: under 1 a byte.
# Limit: memory. On an H200 (4 TB/s of copies), 16384 tokens of 12 + 12 heads of 64 values: 100 MB, 25 us expected.
@triton.jit(do_not_specialize=["num_rows", "max_position"])
def _rotate_kernel(
    x_ptr,
    positions_ptr,
    cos_ptr,
    sin_ptr,
    num_rows,
    max_position,
    num_heads,
    stride_x_t,
    stride_x_h,
    stride_cos,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    ROWS: tl.constexpr,
    HEADS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    pair = tl.arange(0, BLOCK_HALF)
    position = tl.where(row < num_rows, row, -1)
    if positions_ptr is not None:
        position = tl.load(positions_ptr + row, mask=row < num_rows, other=-1).to(tl.int64)
    # A position outside the tables belongs to no token: the caller's lengths are wrong, and nothing is read.
    known = ((position >= 0) & (position < max_position))[:, None] & (pair < HALF)[None, :]
    angle = position[:, None] * stride_cos + pair[None, :]
    cos = tl.load(cos_ptr + angle, mask=known, other=1.0).to(tl.float32)[:, None, :]
    sin = tl.load(sin_ptr + angle, mask=known, other=0.0).to(tl.float32)[:, None, :]
    if INTERLEAVED:
        first, apart = 2 * pair, 1
    else:
        first, apart = pair, HALF
    place = x_ptr + row[:, None, None] * stride_x_t + head[None, :, None] * stride_x_h + first[None, None, :]
    mask = known[:, None, :] & (head < num_heads)[None, :, None]
    one = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    other = tl.load(place + apart, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, (one * cos - other * sin).to(x_ptr.dtype.element_ty), mask=mask)
    tl.store(place + apart, (other * cos + one * sin).to(x_ptr.dtype.element_ty), mask=mask)


ROTATE = Launcher(_rotate_kernel)


def rotate(
    x: torch.Tensor, positions: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, *, interleaved: bool
) -> None:
    """RoPE on `x` (total, heads, head_dim), in place and on the current device; its last axis is contiguous."""
    if x.numel() > 0:
        prepared_rotation(x, positions, cos, sin, interleaved=interleaved)()


def prepared_rotation(
    x: torch.Tensor, positions: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, *, interleaved: bool
) -> Callable[[], object]:
    """`rotate`, to be launched by a call, as often as wanted; of some rows."""
    total, heads, _ = x.shape
    half = cos.shape[1]
    block = power_of_2(half, 8)
    group = min(4, power_of_2(heads))
    rows = max(1, IN_PLACE // (block * group))
    numbers = (heads, x.stride(0), x.stride(1), cos.stride(0))
    grid = (divided_up(total, rows), divided_up(heads, group))
    constants = (half, interleaved, block, rows, group)
    varying = (total, cos.shape[0])  # tables may have a row for each row of the batch
    return ROTATE.prepared(grid, (x, positions, cos, sin), varying, numbers, constants, num_warps=4)
