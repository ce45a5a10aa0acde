"""Products whose tiles are finished where they were made, on a GPU: bias, activation, gated pair and residual before
the only rounding."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from longspan.kernels.gated import activate
from longspan.kernels.launch import Launcher, architecture, divided_up

GROUP = 8  # tiles of rows that are neighbours: they read a tile of the weight from the L2 cache
MODE = "LONGSPAN_GPU_PRODUCT"  # environment: "cublas", a pass over the product behind it, or "fused", this kernel


@triton.jit
def _finished(value, second, ACTIVATION: tl.constexpr, GATE: tl.constexpr):
    """The activation of f32 values, or of one half of a pair times the other."""
    if GATE is None:
        return activate(value, ACTIVATION)
    if GATE == "first":
        return activate(value, ACTIVATION) * second
    return value * activate(second, ACTIVATION)


# product: out = activation(u) + residual, u = x weight^T + bias; of a pair, activation(one half of u) * the other half
# + residual.
#   x (rows, depth) T   weight (width, or 2 * width, depth) T   bias (as the weight's rows) T
#   residual, out (rows, width) T
# Grid (PROGRAMS,), each with the tiles PROGRAMS apart, GROUP tiles of rows next to each other. Of a pair a program has
# the same columns of both halves, in two sums. Rows and columns beyond the end are those at the end again: their loads
# need no mask, and they are not stored.
# FLOPs = 2 * rows * depth * (rows of weight). Bytes from L2 = sizeof(T) * depth * rows * width * (1 / BLOCK_N,
# or 1 / BLOCK_N for a pair with twice the weight, + 1 / BLOCK_M); from memory each tensor once. Limit: tensor cores.
# A pass behind the product reads and writes it: BERT's first MLP product, 16384 x 768 -> 3072, has 77 GFLOP, 110 us at
# 700 TFLOP/s, and its pass 201 MB, 48 us at 4.2 TB/s. So this kernel gains where it reaches 70 % of cuBLAS's rate; of a
# pair (768 -> 2 x 3072, 220 us and 72 us) 75 %.
@triton.jit(do_not_specialize=["num_rows"])
def _product_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,  # or None
    residual_ptr,  # or None
    out_ptr,
    num_rows,
    width,
    depth,
    stride_x,
    stride_weight,
    stride_residual,
    stride_out,
    ACTIVATION: tl.constexpr,
    GATE: tl.constexpr,  # "first", "second": the half that is activated; None: no pair
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    IS_WHOLE: tl.constexpr,  # BLOCK_K divides the depth
    GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    columns = tl.cdiv(width, BLOCK_N)
    row_tiles = tl.cdiv(num_rows, BLOCK_M)
    for tile in tl.range(tl.program_id(0), row_tiles * columns, PROGRAMS):
        first_tile = tile // (GROUP * columns) * GROUP
        size = tl.minimum(row_tiles - first_tile, GROUP)
        inner = tile % (GROUP * columns)
        row = (first_tile + inner % size) * BLOCK_M + tl.arange(0, BLOCK_M)
        column = inner // size * BLOCK_N + tl.arange(0, BLOCK_N)
        row_ok, column_ok = row < num_rows, column < width
        near_row = tl.minimum(row, num_rows - 1).to(tl.int64)
        near_column = tl.minimum(column, width - 1).to(tl.int64)

        x_place = x_ptr + near_row[:, None] * stride_x
        weight_place = weight_ptr + near_column[None, :] * stride_weight
        value = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        second = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, depth, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            if IS_WHOLE:
                x = tl.load(x_place + k[None, :])
                weight = tl.load(weight_place + k[:, None])
            else:
                k_ok = k < depth
                x = tl.load(x_place + k[None, :], mask=k_ok[None, :], other=0.0)
                weight = tl.load(weight_place + k[:, None], mask=k_ok[:, None], other=0.0)
            value = tl.dot(x, weight, value, input_precision="ieee")
            if GATE is not None:
                pair_place = weight_place + tl.cast(width, tl.int64) * stride_weight
                if IS_WHOLE:
                    weight = tl.load(pair_place + k[:, None])
                else:
                    weight = tl.load(pair_place + k[:, None], mask=(k < depth)[:, None], other=0.0)
                second = tl.dot(x, weight, second, input_precision="ieee")
        if bias_ptr is not None:
            value += tl.load(bias_ptr + near_column).to(tl.float32)[None, :]
            if GATE is not None:
                second += tl.load(bias_ptr + width + near_column).to(tl.float32)[None, :]
        value = _finished(value, second, ACTIVATION, GATE)
        place = near_row[:, None]
        mask = row_ok[:, None] & column_ok[None, :]
        if residual_ptr is not None:
            residual = tl.load(residual_ptr + place * stride_residual + column[None, :], mask=mask, other=0.0)
            value += residual.to(tl.float32)
        tl.store(out_ptr + place * stride_out + column[None, :], value.to(out_ptr.dtype.element_ty), mask=mask)


PRODUCT = Launcher(_product_kernel)


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows, columns and depth of a tile, warps, stages of its pipeline, and programs on a multiprocessor."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    programs: int = 1


def tile_of(dtype: torch.dtype, is_pair: bool, has_residual: bool, arch: int) -> Tile:
    """Of a pair the columns are those of each half. A residual takes registers beside the sums."""
    parts = 1 + is_pair + has_residual
    if dtype == torch.float32:
        return Tile(64, 32 if is_pair else 64, 16, 4, 2, 2)  # multiplied in f32, without tensor cores
    if arch >= 90:
        return Tile(64, 64, 64, 4, 3, 2) if parts == 3 else Tile(128, 128, 64, 8, 3)
    return Tile(128, 64 if parts > 1 else 128, 32, 8, 3)  # 48 KiB: any GPU has them


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Of a device; as many as a large GPU has where kernels are interpreted."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def is_fused(x: torch.Tensor) -> bool:
    """Whether a layer's product is finished here, which MODE says."""
    return x.is_cuda and _mode() == "fused" and x.dtype != torch.float32


@functools.cache
def _mode() -> str:
    mode = os.environ.get(MODE, "cublas")
    if mode not in ("cublas", "fused"):
        raise ValueError(f"{MODE} must be 'cublas' or 'fused', got {mode!r}")
    return mode


def launch_product(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    gate: str | None,
    residual: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """On the current device, into `out`, (rows, width) and not empty; all of one dtype, last axes contiguous."""
    (rows, width), depth = out.shape, x.shape[1]
    tile = tile_of(x.dtype, gate is not None, residual is not None, architecture(x.device))
    tiles = divided_up(rows, tile.rows) * divided_up(width, tile.columns)
    programs = multiprocessors(x.device) * tile.programs
    strides = x.stride(0), weight.stride(0), 0 if residual is None else residual.stride(0), out.stride(0)
    PRODUCT(
        (min(tiles, programs),),
        (x, weight, bias, residual, out),
        (rows,),
        (width, depth, *strides),
        (activation, gate, tile.rows, tile.columns, tile.depth, depth % tile.depth == 0, GROUP, programs),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
