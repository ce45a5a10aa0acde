"""Activations on a GPU, after a matrix product: bias, GELU, SiLU, ReLU or tanh, gated pairs, residual, in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import Launcher, divided_up, fill, needs_dispatcher, on_device, rows_readable

BLOCK = 1024  # columns of a program


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """The activation of f32 values; names as in `longspan.ops.linear`."""
    if ACTIVATION == "gelu":
        x = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":  # 0.5 (1 + tanh(y)) is the logistic function of 2 y
        x = x / (1 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    elif ACTIVATION == "relu":
        x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif ACTIVATION == "silu":
        x = x / (1 + tl.exp(-x))
    elif ACTIVATION == "tanh":  # by the small exponential, and x itself where 1 - e would cancel
        e = tl.exp(-2 * tl.abs(x))
        square = x * x
        near = x * (1 - square * (0.3333333333333333 - square * (0.13333333333333333 - square * 0.05396825396825397)))
        x = tl.where(tl.abs(x) < 0.1, near, tl.where(x < 0, e - 1, 1 - e) / (1 + e))
    return x


# gated: out = activation(u + bias) + residual; of a pair, activation(one half of u + bias) * the other half + residual.
#   u (rows, width, or 2 * width) T   bias (as wide as u) T   residual, out (rows, width) T
# Grid (rows, ceil(width / BLOCK)). Bytes = sizeof(T) * rows * width * (2, or 3 for a pair, 1 more with a residual);
# FLOPs some 20 a value, for erf. Limit: memory.
@triton.jit
def _gated_kernel(
    u_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    width,
    stride_u_r,
    stride_residual_r,
    stride_out_r,
    ACTIVATION: tl.constexpr,
    GATE: tl.constexpr,  # "first", "second": the half that is activated; None: u is no pair
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < width
    value = tl.load(u_ptr + row * stride_u_r + column, mask=mask, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        value += tl.load(bias_ptr + column, mask=mask, other=0.0).to(tl.float32)
    if GATE is not None:
        second = tl.load(u_ptr + row * stride_u_r + width + column, mask=mask, other=0.0).to(tl.float32)
        if bias_ptr is not None:
            second += tl.load(bias_ptr + width + column, mask=mask, other=0.0).to(tl.float32)
        value = activate(value, ACTIVATION) * second if GATE == "first" else value * activate(second, ACTIVATION)
    else:
        value = activate(value, ACTIVATION)
    if residual_ptr is not None:
        value += tl.load(residual_ptr + row * stride_residual_r + column, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * stride_out_r + column, value.to(out_ptr.dtype.element_ty), mask=mask)


GATED = Launcher(_gated_kernel)


def launch_gated(
    u: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    gate: str | None,
    residual: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """On the current device, into `out`, (rows, width) and not empty; all last axes are contiguous."""
    rows, width = out.shape
    numbers = (width, u.stride(0), 0 if residual is None else residual.stride(0), out.stride(0))
    grid = (rows, divided_up(width, BLOCK))
    GATED(grid, (u, bias, residual, out), (), numbers, (activation, gate, BLOCK), num_warps=4)


def _run(
    u: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    gate: str | None,
    residual: torch.Tensor | None,
    out: torch.Tensor,
) -> torch.Tensor:
    rows, width = out.shape
    if rows == 0 or width == 0:
        return out
    u, target = rows_readable(u), rows_readable(out)
    residual = None if residual is None else rows_readable(residual)
    with on_device(u):
        launch_gated(u, None if bias is None else bias.contiguous(), activation, gate, residual, target)
    return out if target is out else out.copy_(target)


def _shape(u: torch.Tensor, gate: str | None) -> tuple[int, int]:
    return u.shape[0], u.shape[1] if gate is None else u.shape[1] // 2


@torch.library.custom_op("longspan::gated", mutates_args=())
def _gated_op(
    u: torch.Tensor, bias: torch.Tensor | None, activation: str | None, gate: str | None, residual: torch.Tensor | None
) -> torch.Tensor:
    return _run(u, bias, activation, gate, residual, u.new_empty(_shape(u, gate)))


@_gated_op.register_fake
def _(
    u: torch.Tensor, bias: torch.Tensor | None, activation: str | None, gate: str | None, residual: torch.Tensor | None
) -> torch.Tensor:
    return u.new_empty(_shape(u, gate))


def gated(
    u: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    gate: str | None = None,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """What `longspan.ops.linear` does after its product `u`, which has no bias yet; arguments as there.

    `out` may be `residual`, or `u` if there is no gate. Returns: (rows, width), width the half of u's if gated.
    """
    if needs_dispatcher((u, bias, residual, out)):
        return fill(out, _gated_op(u, bias, activation, gate, residual))
    return _run(u, bias, activation, gate, residual, u.new_empty(_shape(u, gate)) if out is None else out)
