"""Low-rank adapters on a GPU, one for each row: of linear layers, and of embedding tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import LAUNCH, fill, needs_dispatcher, on_device, power_of_2, rows_readable

BLOCK_ROWS = 64
BLOCK_IN = 64
BLOCK_OUT = 64
PROGRAMS = 264  # two for each multiprocessor of a large GPU: with fewer tiles of rows, columns are parted too


@triton.jit
def _add_expanded(
    shrunk,  # (BLOCK_ROWS, RANK) f32, zeros in rows that are not `mine`
    mine,
    b_ptr,  # of the adapter
    bias_ptr,  # of the adapter, or None
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
    """Add lora_b times the shrunk rows, and the bias, to the columns of rows that are `mine`; the others stay as they
    are."""
    r = tl.arange(0, RANK)
    shrunk_t = shrunk.to(b_ptr.dtype.element_ty)
    for start in range(first_column, last_column, BLOCK_OUT):
        column = start + tl.arange(0, BLOCK_OUT)
        column_ok = column < last_column
        b_mask = (r < rank)[:, None] & column_ok[None, :]
        b = tl.load(b_ptr + column[None, :] * stride_b_out + r[:, None], mask=b_mask, other=0.0)
        delta = tl.dot(shrunk_t, b, input_precision="ieee")
        if bias_ptr is not None:
            delta += tl.load(bias_ptr + column, mask=column_ok, other=0.0).to(tl.float32)[None, :]
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
                None,
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


# table_lora: out[r] += expand[t] tables[t, token_ids[r]] + bias[t], t = lora_ids[r]; rows with -1 are not touched.
#   tables (n, vocab_size, rank) T   expand (n, dim, rank) T   bias (n, dim) T   token_ids, lora_ids (rows,) int32
#   out (rows, dim) T
# Grid (ceil(rows / BLOCK_ROWS), parts of the columns). Bytes = sizeof(T) * rows * (2 * dim + rank). Limit: memory.
@triton.jit(do_not_specialize=["num_rows"])
def _table_lora_kernel(
    token_ids_ptr,
    lora_ids_ptr,
    tables_ptr,
    expand_ptr,
    bias_ptr,
    out_ptr,
    num_rows,
    dim,
    rank,
    columns,
    stride_table_n,
    stride_table_v,
    stride_expand_n,
    stride_expand_d,
    stride_bias_n,
    stride_out_r,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    RANK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    ids = tl.load(lora_ids_ptr + row, mask=row < num_rows, other=-1)
    tokens = tl.load(token_ids_ptr + row, mask=row < num_rows, other=0).to(tl.int64)
    r = tl.arange(0, RANK)
    first_column = tl.program_id(1) * columns
    last_column = tl.minimum(first_column + columns, dim)
    for adapter in range(tl.min(tl.where(ids < 0, 2147483647, ids)), tl.max(ids) + 1):
        mine = ids == adapter
        if tl.max(mine.to(tl.int32)) > 0:
            number = tl.max(tl.where(mine, ids, 0)).to(tl.int64)
            place = number * stride_table_n + tokens[:, None] * stride_table_v + r[None, :]
            shrunk = tl.load(tables_ptr + place, mask=mine[:, None] & (r < rank)[None, :], other=0.0).to(tl.float32)
            adapter_bias_ptr = None
            if bias_ptr is not None:
                adapter_bias_ptr = bias_ptr + number * stride_bias_n
            _add_expanded(
                shrunk,
                mine,
                expand_ptr + number * stride_expand_n,
                adapter_bias_ptr,
                out_ptr,
                row,
                rank,
                first_column,
                last_column,
                stride_expand_d,
                stride_out_r,
                BLOCK_OUT,
                RANK,
            )


def _parts(rows: int, width: int) -> tuple[tuple[int, int], int]:
    """The grid, and the columns of a part."""
    tiles = triton.cdiv(rows, BLOCK_ROWS)
    blocks = triton.cdiv(width, BLOCK_OUT)
    parts = min(blocks, max(1, PROGRAMS // tiles))
    columns = triton.cdiv(blocks, parts) * BLOCK_OUT
    return (tiles, triton.cdiv(width, columns)), columns


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
    with on_device(x):
        _multi_lora_kernel[grid](
            x,
            lora_a,
            lora_b,
            lora_ids.contiguous(),
            scaling,
            out,
            *x.shape,
            out.shape[1],
            lora_a.shape[1],
            columns,
            x.stride(0),
            *lora_a.stride()[:2],
            *lora_b.stride()[:2],
            out.stride(0),
            BLOCK_ROWS=BLOCK_ROWS,
            BLOCK_IN=BLOCK_IN,
            BLOCK_OUT=BLOCK_OUT,
            RANK=power_of_2(lora_a.shape[1], 16),
            num_warps=4,
            num_stages=3,
            **LAUNCH,
        )


@torch.library.custom_op("longspan::add_table_lora", mutates_args=("out",))
def add_table_lora(
    out: torch.Tensor,
    token_ids: torch.Tensor,
    lora_ids: torch.Tensor,
    tables: torch.Tensor,
    expand: torch.Tensor,
    bias: torch.Tensor | None,
) -> None:
    """Add to each token's embedding what its row's adapter says of that token; shapes as in the kernel's header."""
    launch_table_lora(out, token_ids, lora_ids, tables, expand, bias)


@add_table_lora.register_fake
def _(
    out: torch.Tensor,
    token_ids: torch.Tensor,
    lora_ids: torch.Tensor,
    tables: torch.Tensor,
    expand: torch.Tensor,
    bias: torch.Tensor | None,
) -> None:
    pass


def launch_table_lora(
    out: torch.Tensor,
    token_ids: torch.Tensor,
    lora_ids: torch.Tensor,
    tables: torch.Tensor,
    expand: torch.Tensor,
    bias: torch.Tensor | None,
) -> None:
    """`add_table_lora`, past torch's dispatcher."""
    if out.numel() == 0:
        return
    grid, columns = _parts(*out.shape)
    tables, expand = rows_readable(tables), rows_readable(expand)
    with on_device(out):
        _table_lora_kernel[grid](
            token_ids.contiguous(),
            lora_ids.contiguous(),
            tables,
            expand,
            None if bias is None else rows_readable(bias),
            out,
            *out.shape,
            tables.shape[2],
            columns,
            *tables.stride()[:2],
            *expand.stride()[:2],
            0 if bias is None else bias.stride(0),
            out.stride(0),
            BLOCK_ROWS=BLOCK_ROWS,
            BLOCK_OUT=BLOCK_OUT,
            RANK=power_of_2(tables.shape[2], 16),
            num_warps=4,
            **LAUNCH,
        )


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
