"""pool_mean on a GPU: span_mean's kernels, with the sequences for spans."""

from __future__ import annotations

import torch

from longspan.kernels.launch import needs_dispatcher, rows_readable
from longspan.kernels.span_mean import means_of, span_mean


def pool_mean(hidden: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """As `longspan.ops.pool_mean`, of f32, f16 or bf16 rows; the means are f32. Differentiable in `hidden`."""
    if needs_dispatcher((hidden, cu_seqlens)):
        spans = torch.stack([cu_seqlens[:-1], cu_seqlens[1:]], dim=1)
        return span_mean(hidden, spans, truncate_dim=None, normalize=False, out=None)
    cu_seqlens = cu_seqlens.contiguous()
    return means_of(rows_readable(hidden), cu_seqlens[:-1], cu_seqlens[1:], hidden.shape[1], False)
