"""layer_norm and rms_norm on a GPU, with the residual add fused."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import Launcher, divided_up, fill, needs_dispatcher, on_device, power_of_2, rows_readable

TILE = 4096  # values a program holds, unless one row alone has more
MAX_ROWS = 16


# layer_norm: (z - mean) / sqrt(variance + eps) * weight + bias, z = x + residual; rms_norm without mean and bias.
#   x, residual, out (rows, groups, dim) T   weight, bias (dim,) T   sums in f32, two passes over registers
# Grid (ceil(rows * groups / ROWS),); a program holds ROWS whole rows, so `out` may be `x` or `residual`.
# Bytes = sizeof(T) * rows * groups * dim * (2, or 3 with a residual); FLOPs about 8 a value: under 3 per byte.
# Limit: memory.
@triton.jit(do_not_specialize=["num_rows"])
def _layer_norm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    num_rows,
    groups,
    dim,
    eps,
    stride_x_r,
    stride_x_g,
    stride_residual_r,
    stride_residual_g,
    stride_out_r,
    stride_out_g,
    CENTRED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_DIM)
    in_row = column < dim
    mask = (row < num_rows)[:, None] & in_row[None, :]
    r, g = (row // groups)[:, None], (row % groups)[:, None]
    z = tl.load(x_ptr + r * stride_x_r + g * stride_x_g + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        place = r * stride_residual_r + g * stride_residual_g + column[None, :]
        z += tl.load(residual_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if CENTRED:
        mean = tl.sum(z, axis=1) / dim
        z = tl.where(mask, z - mean[:, None], 0.0)
    scale = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(z * z, axis=1) / dim + eps))
    weight = tl.load(weight_ptr + column, mask=in_row, other=0.0).to(tl.float32)
    normed = z * scale[:, None] * weight[None, :]
    if bias_ptr is not None:
        normed += tl.load(bias_ptr + column, mask=in_row, other=0.0).to(tl.float32)[None, :]
    place = r * stride_out_r + g * stride_out_g + column[None, :]
    tl.store(out_ptr + place, normed.to(out_ptr.dtype.element_ty), mask=mask)


NORM = Launcher(_layer_norm_kernel)


@functools.cache
def tile_of(dim: int) -> tuple[int, int, int]:
    """(rows, columns) of a program's tile for rows of `dim` values, and its warps."""
    block = power_of_2(dim, 16)
    rows = max(1, min(MAX_ROWS, TILE // block))
    return rows, block, min(16, max(4, rows * block // 1024))


def _run(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    residual: torch.Tensor | None,
    out: torch.Tensor,
    centred: bool,
) -> torch.Tensor:
    """Launch into `out`."""
    if x.numel() == 0:
        return out
    x, target = rows_readable(x), rows_readable(out)
    residual = None if residual is None else rows_readable(residual)
    with on_device(x):
        launch_norm(
            x, weight.contiguous(), None if bias is None else bias.contiguous(), eps, residual, target, centred=centred
        )
    return out if target is out else out.copy_(target)


def launch_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    residual: torch.Tensor | None,
    out: torch.Tensor,
    *,
    centred: bool,
) -> None:
    """On the current device, into `out`; all last axes are contiguous."""
    prepared_norm(x, weight, bias, eps, residual, out, centred=centred)()


def prepared_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    residual: torch.Tensor | None,
    out: torch.Tensor,
    *,
    centred: bool,
) -> Callable[..., object]:
    """`launch_norm`, to be launched by a call: of nothing, or with another layer's weight, and bias where there is
    one."""
    num_rows, groups, dim = x.shape if x.ndim == 3 else (x.shape[0], 1, x.shape[1])
    num_rows *= groups
    rows, block, warps = tile_of(dim)
    numbers = (groups, dim, eps, *_strides(x), *((0, 0) if residual is None else _strides(residual)), *_strides(out))
    grid, tensors = (divided_up(num_rows, rows),), (x, residual, weight, bias, out)
    free = (2,) if bias is None else (2, 3)
    return NORM.prepared(grid, tensors, (num_rows,), numbers, (centred, rows, block), warps, free=free)


def _strides(array: torch.Tensor) -> tuple[int, int]:
    """From row to row, and from group to group."""
    row, group, *rest = array.stride()
    return (row, group) if rest else (row, 0)


@torch.library.custom_op("longspan::layer_norm", mutates_args=())
def _layer_norm_op(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, residual: torch.Tensor | None
) -> torch.Tensor:
    return _run(x, weight, bias, eps, residual, torch.empty(x.shape, dtype=x.dtype, device=x.device), True)


@torch.library.custom_op("longspan::rms_norm", mutates_args=())
def _rms_norm_op(x: torch.Tensor, weight: torch.Tensor, eps: float, residual: torch.Tensor | None) -> torch.Tensor:
    return _run(x, weight, None, eps, residual, torch.empty(x.shape, dtype=x.dtype, device=x.device), False)


@_layer_norm_op.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, residual: torch.Tensor | None
) -> torch.Tensor:
    return x.new_empty(x.shape)


@_rms_norm_op.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, eps: float, residual: torch.Tensor | None) -> torch.Tensor:
    return x.new_empty(x.shape)


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    eps: float,
    residual: torch.Tensor | None,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """As `longspan.ops.layer_norm`, of f32, f16 or bf16 tensors; sums are f32."""
    if needs_dispatcher((x, weight, bias, residual, out)):
        return fill(out, _layer_norm_op(x, weight, bias, eps, residual))
    return _run(x, weight, bias, eps, residual, _new(x) if out is None else out, True)


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, *, eps: float, residual: torch.Tensor | None, out: torch.Tensor | None
) -> torch.Tensor:
    """As `longspan.ops.rms_norm`, of f32, f16 or bf16 tensors; sums are f32."""
    if needs_dispatcher((x, weight, residual, out)):
        return fill(out, _rms_norm_op(x, weight, eps, residual))
    return _run(x, weight, None, eps, residual, _new(x) if out is None else out, False)


def _new(x: torch.Tensor) -> torch.Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
