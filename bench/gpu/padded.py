"""A peer that is always there: the same weights as plain torch computes them, padded, with torch's own attention.

It does what sentence-transformers does with a model that transformers can run: texts sorted by length, batches of 64
padded to their longest, SDPA with a mask. It has what favours it: causal models need no mask, as what is padded stands
behind, and q, k and v are one product, which most models' own code has as three. In float32 it is the truth that all
contestants are held against.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from longspan import Encoder
from longspan.kernels.linear import DenseLinear
from longspan.models.parts import LayerWeights, Norm
from longspan.models.positions import alibi_slopes, rotary_tables
from longspan.models.spec import Rotary

BATCH = 64  # texts; beyond it padded batches of ragged texts grow slower
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class PaddedModel:
    """What a loaded `Encoder` computes, from its own weights, which must be torch tensors without adapters."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._spec = encoder.spec
        self._weights = encoder._encoder.weights
        self._device = self._weights.word_embeddings.device
        self._dtype = self._weights.word_embeddings.dtype
        self._typed: dict[int, torch.Tensor] = {}  # vectors of the weights in that dtype, by identity
        self._tables: dict[tuple[Rotary, int], tuple[torch.Tensor, torch.Tensor]] = {}  # made once, as models have them

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch: int = BATCH) -> torch.Tensor:
        """(n, dim) f32 of unit length, on the host."""
        ids = [text.ids for text in self._encoder.tokenize(texts)]
        order = np.argsort([-len(text) for text in ids], kind="stable")
        parts = []
        for start in range(0, len(order), batch):
            rows = [torch.from_numpy(np.asarray(ids[place], np.int64)) for place in order[start : start + batch]]
            lengths = torch.tensor([len(row) for row in rows])
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            parts.append(self._vectors(padded.to(self._device), lengths.to(self._device)))
        found = torch.cat(parts).cpu()
        return torch.empty_like(found).index_copy_(0, torch.from_numpy(order), found)

    def _vectors(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(rows, dim) f32 of unit length from padded ids (rows, longest)."""
        is_real = torch.arange(ids.shape[1], device=self._device) < lengths[:, None]
        hidden = self._hidden(ids, is_real)
        pooling = self._encoder.pooling
        if pooling == "mean":
            vectors = (hidden * is_real[..., None]).sum(1, dtype=torch.float32) / lengths[:, None]
        else:
            last = torch.zeros_like(lengths) if pooling == "cls" else lengths - 1
            vectors = hidden[torch.arange(len(ids), device=self._device), last]
        return F.normalize(vectors.float(), dim=1)

    def _hidden(self, ids: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
        spec, weights = self._spec, self._weights
        x = weights.word_embeddings[ids]
        if weights.position_embeddings is not None:
            x = x + weights.position_embeddings[torch.arange(ids.shape[1], device=self._device) + spec.position_offset]
        if weights.token_type is not None:
            x = x + self._vector(weights.token_type)
        x = self._norm(x, weights.embedding_norm)
        mask = self._mask(is_real)
        for layer, own in zip(spec.layers, weights.layers, strict=True):
            x = (
                self._prenorm(x, own, layer.rotary, mask)
                if spec.is_prenorm
                else self._postnorm(x, own, layer.rotary, mask)
            )
        return self._norm(x, weights.final_norm)

    def _mask(self, is_real: torch.Tensor) -> torch.Tensor | None:
        """What SDPA takes: nothing, the real keys, or ALiBi with -inf for the others."""
        if self._spec.causal:
            return None
        keys = is_real[:, None, None, :]
        if not self._spec.alibi:
            return keys
        places = torch.arange(is_real.shape[1], device=self._device)
        slopes = torch.from_numpy(alibi_slopes(self._spec.num_heads)).to(self._device)
        bias = -slopes[:, None, None] * (places[:, None] - places).abs()
        return torch.where(keys, bias, -torch.inf).to(self._dtype)

    def _postnorm(
        self, x: torch.Tensor, layer: LayerWeights, rotary: Rotary | None, mask: torch.Tensor | None
    ) -> torch.Tensor:
        x = self._norm(x + self._attention(x, layer, rotary, mask), layer.attention_norm)
        return self._norm(x + self._mlp(x, layer), layer.mlp_norm)

    def _prenorm(
        self, x: torch.Tensor, layer: LayerWeights, rotary: Rotary | None, mask: torch.Tensor | None
    ) -> torch.Tensor:
        x = x + self._attention(self._norm(x, layer.attention_norm), layer, rotary, mask)
        return x + self._mlp(self._norm(x, layer.mlp_norm), layer)

    def _attention(
        self, x: torch.Tensor, layer: LayerWeights, rotary: Rotary | None, mask: torch.Tensor | None
    ) -> torch.Tensor:
        spec = self._spec
        qkv = _linear(x, layer.qkv.weight).unflatten(2, (-1, spec.head_dim)).transpose(1, 2)
        q, k, v = qkv.split([spec.num_heads, spec.kv_heads, spec.kv_heads], dim=1)
        q, k = self._norm(q, layer.q_norm), self._norm(k, layer.k_norm)
        if rotary is not None:
            q, k = self._rotated(q, rotary), self._rotated(k, rotary)
        how = {
            "attn_mask": mask,
            "is_causal": spec.causal,
            "scale": spec.scale,
            "enable_gqa": spec.kv_heads < spec.num_heads,
        }
        return _linear(
            F.scaled_dot_product_attention(q, k, v, **how).transpose(1, 2).flatten(2), layer.attention_out.weight
        )

    def _rotated(self, x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
        place = rotary, x.shape[2]
        if place not in self._tables:
            tables = (torch.from_numpy(table).to(self._device) for table in rotary_tables(rotary, x.shape[2]))
            cos, sin = (torch.cat([table, table], dim=1).to(self._dtype) for table in tables)
            self._tables[place] = cos, sin
        cos, sin = self._tables[place]
        first, second = x.chunk(2, dim=3)
        return x * cos + torch.cat([-second, first], dim=3) * sin

    def _mlp(self, x: torch.Tensor, layer: LayerWeights) -> torch.Tensor:
        assert layer.up is not None and layer.down is not None
        activation, inner = ACTIVATIONS[str(self._spec.activation)], _linear(x, layer.up.weight)
        if self._spec.gate is None:
            return _linear(activation(inner), layer.down.weight)
        first, second = inner.chunk(2, dim=2)
        gated = activation(first) * second if self._spec.gate == "first" else first * activation(second)
        return _linear(gated, layer.down.weight)

    def _norm(self, x: torch.Tensor, norm: Norm | None) -> torch.Tensor:
        if norm is None:
            return x
        weight, eps = self._vector(norm.weight), self._spec.norm_eps
        if self._spec.norm == "rms_norm":
            return F.rms_norm(x, (len(weight),), weight, eps)
        return F.layer_norm(x, (len(weight),), weight, None if norm.bias is None else self._vector(norm.bias), eps)

    def _vector(self, vector: torch.Tensor) -> torch.Tensor:
        """A vector of the weights in the model's dtype, converted once."""
        if id(vector) not in self._typed:
            self._typed[id(vector)] = vector.to(self._dtype)
        return self._typed[id(vector)]


def _linear(x: torch.Tensor, layer: DenseLinear) -> torch.Tensor:
    return F.linear(x, layer.weight, layer.bias)
