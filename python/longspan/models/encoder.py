"""The forward pass, written once for every family: a `ModelSpec` says what happens, ops do it."""

from __future__ import annotations

import numpy as np

from longspan.batch import PackedBatch
from longspan.models.spec import ModelSpec
from longspan.models.weights import EncoderWeights, LayerWeights, Norm
from longspan.models.workspace import Workspace
from longspan.ops import attention_varlen, layer_norm, linear, rms_norm


class TextEncoder:
    """Token ids in, last hidden state out. Holds no state of a call: many threads may share one encoder."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights) -> None:
        self.spec = spec
        self.weights = weights

    def forward(self, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        """The last hidden state, (total_tokens, hidden_size) f32: memory of `workspace`, good until its next use."""
        hidden = self._embed(batch, workspace)
        for layer in self.weights.layers:
            hidden = self._layer(layer, hidden, batch, workspace)
        return hidden

    def _embed(self, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        weights = self.weights
        hidden = workspace.take("hidden", len(batch.ids), self.spec.hidden_size)
        _lookup(weights.word_embeddings, batch.ids, hidden)
        if weights.position_embeddings is not None:
            rows = workspace.take("projected", *hidden.shape)
            _lookup(weights.position_embeddings, batch.positions + self.spec.positions.offset, rows)
            hidden += rows
        if weights.token_type is not None:
            hidden += weights.token_type
        return self._norm(hidden, weights.embedding_norm, None)

    def _layer(self, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        """Post-norm: x = norm(x + attention(x)), then x = norm(x + mlp(x)); in place."""
        spec = self.spec
        tokens = len(x)
        attended = spec.num_heads * spec.head_dim
        projected = workspace.take("projected", tokens, spec.hidden_size)

        qkv = workspace.take("wide", tokens, 3 * attended)
        context = workspace.take("context", tokens, attended)
        linear(x, layer.qkv, out=qkv)
        self._attend(qkv, batch, context)
        linear(context, layer.attention_out, out=projected)
        x = self._norm(projected, layer.attention_norm, x)

        inner = workspace.take("wide", tokens, spec.intermediate_size)
        linear(x, layer.up, activation=spec.activation, gate=spec.gate, out=inner)
        linear(inner, layer.down, out=projected)
        return self._norm(projected, layer.mlp_norm, x)

    def _attend(self, qkv: np.ndarray, batch: PackedBatch, context: np.ndarray) -> None:
        spec = self.spec
        heads = qkv.reshape(len(qkv), 3, spec.num_heads, spec.head_dim)
        attention_varlen(
            heads[:, 0],
            heads[:, 1],
            heads[:, 2],
            batch.cu_seqlens,
            batch.cu_seqlens,
            softmax_scale=spec.softmax_scale,
            out=context.reshape(len(context), spec.num_heads, spec.head_dim),
        )

    def _norm(self, x: np.ndarray, norm: Norm, residual: np.ndarray | None) -> np.ndarray:
        """Norm of x + residual, written over the residual, or over x where there is none."""
        out = x if residual is None else residual
        eps = self.spec.norm_eps
        if self.spec.norm == "layer_norm":
            layer_norm(x, norm.weight, norm.bias, eps=eps, residual=residual, out=out)
        else:
            rms_norm(x, norm.weight, eps=eps, residual=residual, out=out)
        return out


def _lookup(table: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """out = table[rows] as f32. Rows are within the table: the tokenizer and `encode_ids` see to it."""
    if table.dtype == np.float32:
        np.take(table, rows, axis=0, out=out, mode="clip")  # "raise" would go through a copy
    else:
        out[...] = table[rows]
