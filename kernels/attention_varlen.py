"""attention_varlen on a GPU: checks of what the kernels need, torch.library registration, gradients."""

from __future__ import annotations

import torch

from longspan.kernels.attention_varlen_backward import attend_backward
from longspan.kernels.attention_varlen_forward import Config, Options, attend
from longspan.kernels.launch import fill, needs_dispatcher, rows_readable

MAX_HEAD_DIM = 256


@torch.library.custom_op("longspan::attention_varlen", mutates_args=())
def _attention_varlen_op(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    softmax_scale: float,
    slopes: torch.Tensor | None,
    bias_table: torch.Tensor | None,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    interleaved: bool,
    rotary_by_key: bool,
    window_left: int | None,
    window_right: int | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The attended rows, and the base-2 logarithm of each row's sum of weights (num_heads, total_q) f32."""
    tables = (slopes, bias_table, cos, sin)
    options = Options(softmax_scale, *tables, interleaved, rotary_by_key, window_left, window_right)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32, device=q.device)
    attend(rows_readable(q), rows_readable(k), rows_readable(v), cu_seqlens_q, cu_seqlens_k, options, out, lse)
    return out, lse


@_attention_varlen_op.register_fake
def _(q: torch.Tensor, *_rest: object) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), q.new_empty(
        (q.shape[1], q.shape[0]), dtype=torch.float32
    )


@torch.library.custom_op("longspan::attention_varlen_backward", mutates_args=())
def _attention_varlen_backward_op(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    softmax_scale: float,
    slopes: torch.Tensor | None,
    bias_table: torch.Tensor | None,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    interleaved: bool,
    rotary_by_key: bool,
    window_left: int | None,
    window_right: int | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tables = (slopes, bias_table, cos, sin)
    options = Options(softmax_scale, *tables, interleaved, rotary_by_key, window_left, window_right)
    rows = (rows_readable(x) for x in (grad, q, k, v, out))
    return attend_backward(*rows, lse, cu_seqlens_q, cu_seqlens_k, options)


@_attention_varlen_backward_op.register_fake
def _(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_rest: object
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    return dq, dk, dv


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: tuple[object, ...]) -> None:
    q, k, v, cu_seqlens_q, cu_seqlens_k, scale, slopes, table, cos, sin, *rest = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, slopes, table, cos, sin)
    ctx.scale, ctx.rest = scale, rest


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor, _grad_lse: object) -> tuple[object, ...]:
    q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, *tables = ctx.saved_tensors
    grads = _attention_varlen_backward_op(
        grad, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, ctx.scale, *tables, *ctx.rest
    )
    return (*grads, *(None,) * 11)


_attention_varlen_op.register_autograd(_backward, setup_context=_keep)


def attention_varlen(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    *,
    slopes: torch.Tensor | None,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    interleaved: bool,
    rotary_by_key: bool,
    bias_table: torch.Tensor | None,
    causal: bool,
    window: tuple[int, int] | None,
    softmax_scale: float | None,
    dtype: str = "float32",
    out: torch.Tensor | None,
    config: Config | None = None,
) -> torch.Tensor:
    """As `longspan.ops.attention_varlen`, of f32, f16 or bf16 rows up to 256 wide; differentiable in q, k and v.

    f16 and bf16 rows are multiplied on tensor cores, sums and softmax are f32; the tables may have any float dtype.
    f32 rows are multiplied in f32, without tensor cores; `dtype` has no part in it.

    Args: as there, and
        config: tile sizes for the forward pass, or None for those of `config_for`.
    Raises: ValueError, a table asks for a gradient.
    """
    for name, table in (("slopes", slopes), ("bias_table", bias_table), ("cos", cos), ("sin", sin)):
        if table is not None and table.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"attention_varlen: gradients reach q, k and v only; give {name} detached")
    left, right = (None if side < 0 else side for side in window or (-1, -1))
    right = 0 if causal else right
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else float(softmax_scale)
    bias_table, cos, sin = (None if x is None else x.contiguous() for x in (bias_table, cos, sin))
    slopes = None if slopes is None else slopes.contiguous()
    if needs_dispatcher((q, k, v, out)):
        tables = (slopes, bias_table, cos, sin)
        rest = (interleaved, rotary_by_key, left, right)
        result, _ = _attention_varlen_op(q, k, v, cu_seqlens_q, cu_seqlens_k, scale, *tables, *rest)
        return fill(out, result)
    result = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    target = rows_readable(result)
    options = Options(scale, slopes, bias_table, cos, sin, interleaved, rotary_by_key, left, right)
    rows = (rows_readable(x) for x in (q, k, v))
    attend(*rows, cu_seqlens_q.contiguous(), cu_seqlens_k.contiguous(), options, target, None, config)
    return result if target is result else result.copy_(target)
