"""pool_logits on a GPU: cuBLAS through torch, a slice of the vocabulary at a time, pooled before the next one.

x (total_tokens, in_features), weight (out_features, in_features) in the layer's compute type, logits and result in f32.
A slice's logits, MAX_LOGITS of them at most, are written once and read once: 8 bytes a logit beside the product's
2 * in_features FLOPs, so that from some hundred inputs on the product is the limit. Nothing waits for the device.
"""

from __future__ import annotations

from typing import Final

import torch

from longspan.kernels.linear import DenseLinear

MAX_LOGITS: Final = 16 << 20  # that are there at once, 64 MB


def pool_logits(
    x: torch.Tensor, layer: DenseLinear, cu_seqlens: torch.Tensor, *, is_sum: bool, saturation: int
) -> torch.Tensor:
    """As `longspan.ops.pool_logits`, the sums in any order; `saturation`: how often log1p is taken of max(u, 0)."""
    tokens = torch.arange(len(x), dtype=cu_seqlens.dtype, device=cu_seqlens.device)
    sequences = torch.searchsorted(cu_seqlens[1:].contiguous(), tokens, right=True)
    start = 0.0 if is_sum else -torch.inf
    out = torch.full((len(cu_seqlens) - 1, layer.out_features), start, device=x.device)
    step = max(256, MAX_LOGITS // max(1, len(x)))
    for first in range(0, layer.out_features, step):
        part = slice(first, first + step)
        logits = torch.nn.functional.linear(x, layer.weight[part]).float()
        if layer.bias is not None:
            logits += layer.bias[part].float()
        if is_sum:
            out[:, part] = out[:, part].index_add(0, sequences, _saturated(logits, saturation))
        else:
            out[:, part] = out[:, part].scatter_reduce(0, sequences[:, None].expand_as(logits), logits, "amax")
    return out if is_sum else _saturated(out, saturation)


def _saturated(logits: torch.Tensor, saturation: int) -> torch.Tensor:
    for _ in range(saturation):
        logits = torch.log1p(logits.clamp(min=0))
    return logits
