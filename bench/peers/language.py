"""jina-embeddings-v4's language side of random weights as a torch module, as torch's users write one.

It does the sums that ours does, on images of one size: M-RoPE, grouped heads, a causal mask, adapters as PEFT computes
them, beside the layer's own product. What differs: the embeddings come in as rows, which ours looks up.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from longspan.models.positions import rotary_rows

from ..models.random_language import Adapted, PlainLanguage, pooled_span, random_row


class AdaptedLinear(nn.Module):  # torch is not looked into
    """x W^T + bias + (x A^T) B^T."""

    def __init__(self, plain: Adapted) -> None:
        super().__init__()
        self.base = _linear(plain.weight, plain.bias)
        self.shrink, self.expand = _linear(plain.lora_a, None), _linear(plain.lora_b, None)

    def forward(self, x):
        """See the class."""
        return self.base(x) + self.expand(self.shrink(x))


def _linear(weight, bias):
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            module.bias.copy_(torch.from_numpy(bias))
    return module


class LanguageSide(nn.Module):
    """(images, tokens, hidden) -> (images, hidden) of unit length."""

    def __init__(self, plain: PlainLanguage) -> None:
        super().__init__()
        shape = plain.shape
        spec = self.spec = shape.spec
        cos, sin = rotary_rows(spec.layers[0].rotary, random_row(shape).coordinates)
        for name, table in (("cos", cos), ("sin", sin)):
            self.register_buffer(name, torch.cat([torch.from_numpy(table)] * 2, 1))
        first, beside = pooled_span()
        self.pooled = slice(first, first + shape.grid[0] * shape.grid[1] + beside)
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: AdaptedLinear(own) for name, own in layer.items()}) for layer in plain.layers
        )

    def _norm(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.spec.norm_eps)

    def _turn(self, x):
        first, second = x.chunk(2, -1)
        return x * self.cos.to(x.dtype) + torch.cat([-second, first], -1) * self.sin.to(x.dtype)

    def forward(self, x):
        """See the class."""
        spec, images = self.spec, x.shape[0]
        repeats = spec.num_heads // spec.kv_heads
        for layer in self.layers:
            normed = self._norm(x)
            q, k, v = (
                layer[name](normed).view(images, -1, heads, spec.head_dim).transpose(1, 2)
                for name, heads in (("q", spec.num_heads), ("k", spec.kv_heads), ("v", spec.kv_heads))
            )
            q, k = self._turn(q), self._turn(k).repeat_interleave(repeats, 1)
            found = functional.scaled_dot_product_attention(q, k, v.repeat_interleave(repeats, 1), is_causal=True)
            x = x + layer["out"](found.transpose(1, 2).flatten(2))
            normed = self._norm(x)
            x = x + layer["down"](functional.silu(layer["gate"](normed)) * layer["up"](normed))
        mean = self._norm(x)[:, self.pooled].mean(1)
        return functional.normalize(mean, dim=1)
