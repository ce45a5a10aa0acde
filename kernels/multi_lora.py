"""Low-rank adapters of linear layers on a GPU, one for each row: added to a product, or made part of its depth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import Launcher, divided_up, fill, needs_dispatcher, on_device, power_of_2, rows_readable

BLOCK_ROWS = 64
BLOCK_IN = 64
BLOCK_OUT = 64
PROGRAMS = 264  # two for each multiprocessor of a large GPU: with fewer tiles of rows, columns are parted too


@triton.jit
def _add_expanded(
    shrunk,  # (BLOCK_ROWS, RANK) f32, zeros in rows that are not `mine`
    mine,
    b_ptr,  # of the adapter
    out_ptr,
    row,
    rank,
    first_column,
    last_column,
    stride_b_out,
    stride_out_r,
    BLOCK_OUT: tl.constexpr,
    RANK: tl.constexpr,
):
    """Add lora_b times the shrunk rows to the columns of rows that are `mine`; the others stay as they are."""
    r = tl.arange(0, RANK)
    shrunk_t = shrunk.to(b_ptr.dtype.element_ty)
    for start in range(first_column, last_column, BLOCK_OUT):
        column = start + tl.arange(0, BLOCK_OUT)
        column_ok = column < last_column
        b_mask = (r < rank)[:, None] & column_ok[None, :]
        b = tl.load(b_ptr + column[None, :] * stride_b_out + r[:, None], mask=b_mask, other=0.0)
        delta = tl.dot(shrunk_t, b, input_precision="ieee")
        place = out_ptr + row[:, None] * stride_out_r + column[None, :]
        mask = mine[:, None] & column_ok[None, :]
        delta += tl.load(place, mask=mask, other=0.0).to(tl.float32)
        tl.store(place, delta.to(out_ptr.dtype.element_ty), mask=mask)


# multi_lora: out[r] += scaling[t] * lora_b[t] (lora_a[t] x[r]), t = lora_ids[r]; rows with -1 are not touched.
#   x (rows, in_features) T   lora_a (n, rank, in_features) T   lora_b (n, out_features, rank) T
#   lora_ids (rows,) int32   scaling (n,) f32   out (rows, out_features) T
# Grid (ceil(rows / BLOCK_ROWS), parts of the output columns): a program shrinks its rows for each adapter that some of
# them have (of a packed batch mostly one), in registers, and expands them over its columns. Rows of other adapters are
# shrunk to zeros, so a row's sum does not depend on its neighbours.
# FLOPs = 2 * rows * rank * (in_features * parts + out_features). Bytes = sizeof(T) * rows * (in_features * parts
# + 2 * out_features). Limit: memory; beside the base product it is the second pass over `out` that counts.
@triton.jit(do_not_specialize=["num_rows"])
def _multi_lora_kernel(
    x_ptr,
    lora_a_ptr,
    lora_b_ptr,
    lora_ids_ptr,
    scaling_ptr,
    out_ptr,
    num_rows,
    in_features,
    out_features,
    rank,
    columns,  # of a part, a multiple of BLOCK_OUT
    stride_x_r,
    stride_a_n,
    stride_a_rank,
    stride_b_n,
    stride_b_out,
    stride_out_r,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    RANK: tl.constexpr,  # rounded up, at least 16: the matrix units' depth
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    ids = tl.load(lora_ids_ptr + row, mask=row < num_rows, other=-1)
    r = tl.arange(0, RANK)
    first_column = tl.program_id(1) * columns
    last_column = tl.minimum(first_column + columns, out_features)
    for adapter in range(tl.min(tl.where(ids < 0, 2147483647, ids)), tl.max(ids) + 1):
        mine = ids == adapter
        if tl.max(mine.to(tl.int32)) > 0:
            number = tl.max(tl.where(mine, ids, 0)).to(tl.int64)
            a_ptr = lora_a_ptr + number * stride_a_n + r[None, :] * stride_a_rank
            shrunk = tl.zeros((BLOCK_ROWS, RANK), tl.float32)
            for start in range(0, in_features, BLOCK_IN):
                i = start + tl.arange(0, BLOCK_IN)
                i_ok = i < in_features
                x_mask = mine[:, None] & i_ok[None, :]
                x = tl.load(x_ptr + row[:, None] * stride_x_r + i[None, :], mask=x_mask, other=0.0)
                a = tl.load(a_ptr + i[:, None], mask=i_ok[:, None] & (r < rank)[None, :], other=0.0)
                shrunk = tl.dot(x, a, shrunk, input_precision="ieee")
            _add_expanded(
                shrunk * tl.load(scaling_ptr + number),
                mine,
                lora_b_ptr + number * stride_b_n,
                out_ptr,
                row,
                rank,
                first_column,
                last_column,
                stride_b_out,
                stride_out_r,
                BLOCK_OUT,
                RANK,
            )


# shrink: out[r, c] = sum over i of x[r, i] a[c, i] where column c is of the adapter lora_ids[r], else 0: column c is of
# adapter c // rank. Beside x, it is what the product with [W, B] of all adapters turns into each row's own adapter.
#   x (rows, in_features) T   a (columns, in_features) T   lora_ids (rows,) int32   out (rows, columns) T, sums in f32
# Grid (ceil(rows / BLOCK_ROWS),). A row of another adapter has zeros, whatever its neighbours are.
# FLOPs = 2 * rows * in_features * columns. Bytes = sizeof(T) * rows * (in_features + columns). Limit: memory, or the L2
# cache where x was just written. On an H200, 16384 x 1024, five adapters of rank 4: 34 MB, 8 us expected; the product
# grows from 1024 to 1056 columns of depth: 3 % of its FLOPs, 6 % where its tiles are 64 deep.
@triton.jit(do_not_specialize=["num_rows"])
def _shrink_kernel(
    x_ptr,
    a_ptr,
    lora_ids_ptr,
    out_ptr,
    num_rows,
    in_features,
    rank,
    stride_x,
    stride_a,
    stride_out,
    COLUMNS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,  # rounded up to a power of two
    BLOCK_ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    row_ok = row < num_rows
    ids = tl.load(lora_ids_ptr + row, mask=row_ok, other=-1)
    column = tl.arange(0, BLOCK_COLUMNS)
    shrunk = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    if tl.max(ids) >= 0:  # else all of it is zeros, and x is not read
        for start in range(0, in_features, BLOCK_IN):
            i = start + tl.arange(0, BLOCK_IN)
            i_ok = i < in_features
            x_mask = row_ok[:, None] & i_ok[None, :]
            x = tl.load(x_ptr + row[:, None] * stride_x + i[None, :], mask=x_mask, other=0.0)
            a_mask = i_ok[:, None] & (column < COLUMNS)[None, :]
            a = tl.load(a_ptr + column[None, :] * stride_a + i[:, None], mask=a_mask, other=0.0)
            shrunk = tl.dot(x, a, shrunk, input_precision="ieee")
    mine = (column // rank)[None, :] == ids[:, None]
    shrunk = tl.where(mine, shrunk, 0.0).to(out_ptr.dtype.element_ty)
    mask = row_ok[:, None] & (column < COLUMNS)[None, :]
    tl.store(out_ptr + row[:, None] * stride_out + column[None, :], shrunk, mask=mask)


SHRINK = Launcher(_shrink_kernel)


def launch_shrink(x: torch.Tensor, a: torch.Tensor, rank: int, lora_ids: torch.Tensor, out: torch.Tensor) -> None:
    """`out` (rows, columns), on the current device; columns past the last adapter's are those of a's rows of zeros."""
    if out.shape[0] > 0:
        prepared_shrink(x, a, rank, lora_ids, out)()


def prepared_shrink(
    x: torch.Tensor, a: torch.Tensor, rank: int, lora_ids: torch.Tensor, out: torch.Tensor
) -> Callable[..., object]:
    """`launch_shrink` of some rows, to be launched by a call: of nothing, or with another layer's `a`."""
    rows, columns = out.shape
    block_rows, constants = _shrink_tile(columns, x.dtype)
    numbers = (x.shape[1], rank, x.stride(0), a.stride(0), out.stride(0))
    grid, tensors = (divided_up(rows, block_rows),), (x, a, lora_ids, out)
    return SHRINK.prepared(grid, tensors, (rows,), numbers, constants, 4, free=(1,))


@functools.cache
def _shrink_tile(columns: int, dtype: torch.dtype) -> tuple[int, tuple[int, int, int, int]]:
    """Rows of a program's tile, and the kernel's constants."""
    block = power_of_2(columns, 16)
    is_wide, is_f32 = block > 128, dtype == torch.float32
    block_rows = 16 if is_wide or is_f32 else 64
    block_in = BLOCK_IN // 2 if is_wide and is_f32 else BLOCK_IN  # two stages fit the 99 KiB of sm_86
    return block_rows, (columns, block, block_rows, block_in)


MULTI_LORA = Launcher(_multi_lora_kernel)


@functools.cache
def _parts(rows: int, width: int) -> tuple[tuple[int, int], int]:
    """The grid, and the columns of a part."""
    tiles = divided_up(rows, BLOCK_ROWS)
    blocks = divided_up(width, BLOCK_OUT)
    parts = min(blocks, max(1, PROGRAMS // tiles))
    columns = divided_up(blocks, parts) * BLOCK_OUT
    return (tiles, divided_up(width, columns)), columns


@torch.library.custom_op("longspan::add_multi_lora", mutates_args=("out",))
def add_multi_lora(
    out: torch.Tensor,
    x: torch.Tensor,
    lora_a: torch.Tensor,
    lora_b: torch.Tensor,
    lora_ids: torch.Tensor,
    scaling: torch.Tensor,
) -> None:
    """Add to each row of `out` what its adapter makes of that row of `x`; shapes as in the kernel's header."""
    launch_multi_lora(out, x, lora_a, lora_b, lora_ids, scaling)


@add_multi_lora.register_fake
def _(
    out: torch.Tensor,
    x: torch.Tensor,
    lora_a: torch.Tensor,
    lora_b: torch.Tensor,
    lora_ids: torch.Tensor,
    scaling: torch.Tensor,
) -> None:
    pass


def launch_multi_lora(
    out: torch.Tensor,
    x: torch.Tensor,
    lora_a: torch.Tensor,
    lora_b: torch.Tensor,
    lora_ids: torch.Tensor,
    scaling: torch.Tensor,
) -> None:
    """`add_multi_lora`, past torch's dispatcher."""
    if out.numel() == 0:
        return
    if out.stride(-1) != 1:
        raise ValueError("multi_lora: out must have a contiguous last axis on a GPU, as its rows are added to in place")
    x, lora_a, lora_b = (rows_readable(part) for part in (x, lora_a, lora_b))
    grid, columns = _parts(*out.shape)
    numbers = (x.shape[1], out.shape[1], lora_a.shape[1], columns, x.stride(0), *lora_a.stride()[:2])
    numbers += (*lora_b.stride()[:2], out.stride(0))
    constants = (BLOCK_ROWS, BLOCK_IN, BLOCK_OUT, power_of_2(lora_a.shape[1], 16))
    with on_device(x):
        tensors = (x, lora_a, lora_b, lora_ids.contiguous(), scaling, out)
        MULTI_LORA(grid, tensors, (x.shape[0],), numbers, constants, num_warps=4)


def multi_lora(
    x: torch.Tensor,
    lora_a: torch.Tensor,
    lora_b: torch.Tensor,
    lora_ids: torch.Tensor,
    *,
    scaling: Sequence[float],
    out: torch.Tensor | None,
) -> torch.Tensor:
    """As `longspan.ops.multi_lora`, of f32, f16 or bf16 tensors; sums are f32, shrunk rows are rounded to the dtype."""
    scales = torch.tensor(scaling, dtype=torch.float32, device=x.device)
    result = torch.zeros((x.shape[0], lora_b.shape[1]), dtype=x.dtype, device=x.device)
    add = add_multi_lora if needs_dispatcher((x, lora_a, lora_b, lora_ids, out)) else launch_multi_lora
    add(result, x, lora_a, lora_b, lora_ids, scales)
    return fill(out, result)
