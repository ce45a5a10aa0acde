"""attention_varlen by the CUDA kernel for Hopper GPUs, with the Triton kernels' backward pass."""

from __future__ import annotations

import torch

from longspan.ops.cuda import capsule, stream_of  # isort: skip  # says what is missing where _cuda is not built
from longspan import _cuda

if not hasattr(_cuda, "attention_varlen"):
    raise ImportError("this build has no kernels for sm_90a; add 90a to LONGSPAN_CUDA_ARCHITECTURES")


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    slopes: torch.Tensor | None,
    softmax_scale: float,
    causal: bool,
    out: torch.Tensor,
    lse: torch.Tensor | None,
) -> None:
    """Fill `out` (total_q, num_heads, head_dim), and if it is given `lse` (num_heads, total_q) f32: the base-2
    logarithm of each row's sum of weights, +inf where a query sees no key."""
    sequences = cu_seqlens_q.shape[0] - 1
    size = _cuda.attention_varlen_workspace(q.shape[0], sequences)
    workspace = torch.empty(size, dtype=torch.uint8, device=q.device)
    offsets = (capsule(cu_seqlens_q.contiguous()), capsule(cu_seqlens_k.contiguous()))
    bias = None if slopes is None else capsule(slopes.to(torch.float32).contiguous())
    rows = (capsule(q), capsule(k), capsule(v))
    targets = (capsule(workspace), capsule(out), None if lse is None else capsule(lse))
    _cuda.attention_varlen(*rows, *offsets, bias, softmax_scale, causal, *targets, stream_of(q))


class _Attention(torch.autograd.Function):  # type: ignore[misc]  # torch is not looked into
    """With gradients of q, k and v."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        slopes: torch.Tensor | None,
        softmax_scale: float,
        causal: bool,
    ) -> torch.Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32, device=q.device)
        attend(q, k, v, cu_seqlens_q, cu_seqlens_k, slopes, softmax_scale, causal, out, lse)
        ctx.save_for_backward(q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, slopes)
        ctx.softmax_scale, ctx.causal = softmax_scale, causal
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from longspan.kernels.attention_varlen_backward import attend_backward
        from longspan.kernels.attention_varlen_forward import Options
        from longspan.kernels.launch import rows_readable

        q, k, v, out, lse, *offsets, slopes = ctx.saved_tensors
        options = Options(ctx.softmax_scale, slopes, window_right=0 if ctx.causal else None)
        rows = (rows_readable(x) for x in (grad, q, k, v, out))
        return (*attend_backward(*rows, lse, *offsets, options), *(None,) * 5)


def attention_varlen(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    *,
    slopes: torch.Tensor | None,
    causal: bool,
    softmax_scale: float | None,
    out: torch.Tensor | None,
    **nothing: object,
) -> torch.Tensor:
    """As `longspan.ops.attention_varlen`, of rows that `_refuses_sm90` there lets through; differentiable.

    Raises: ValueError, slopes ask for a gradient.
    """
    if slopes is not None and slopes.requires_grad and torch.is_grad_enabled():
        raise ValueError("attention_varlen: gradients reach q, k and v only; give slopes detached")
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else float(softmax_scale)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        result: torch.Tensor = _Attention.apply(q, k, v, cu_seqlens_q, cu_seqlens_k, slopes, scale, causal)
        return result if out is None else out.copy_(result)
    fits = out is not None and out.dtype == q.dtype and _can_be_written(out)
    target = out if out is not None and fits else torch.empty(q.shape, dtype=q.dtype, device=q.device)
    attend(q, k, v, cu_seqlens_q, cu_seqlens_k, slopes, scale, causal, target, None)
    return target if out is None or fits else out.copy_(target)


def _can_be_written(out: torch.Tensor) -> bool:
    """Whether 16 bytes at a time can be."""
    strides = [stride for stride, count in zip(out.stride()[:2], out.shape[:2], strict=True) if count > 1]
    fits = all(stride > 0 and stride % 8 == 0 for stride in strides)
    return fits and out.stride(2) == 1 and out.data_ptr() % 16 == 0
