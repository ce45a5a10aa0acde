"""The forward pass, written once for every family: a `ModelSpec` says what happens, an engine does it."""

from __future__ import annotations

import numpy as np

from longspan.batch import PackedBatch
from longspan.models.engine import OpsEngine
from longspan.models.parts import EncoderWeights, LayerWeights, Norm
from longspan.models.positions import alibi_slopes, rotary_tables
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.models.workspace import Workspace


class TextEncoder:
    """Token ids in, last hidden state out. Holds no state of a call: many threads may share one encoder."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights, engine: OpsEngine) -> None:
        self.spec = spec
        self.weights = weights
        self.engine = engine
        self._slopes = engine.place(alibi_slopes(spec.num_heads)) if spec.alibi else None
        self._rotary_tables: dict[Rotary, tuple[np.ndarray, np.ndarray]] = {}

    def forward(self, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        """The last hidden state, (total_tokens, hidden_size): memory of `workspace`, good until its next use."""
        batch = self.engine.place_batch(batch)
        run_layer = self._prenorm_layer if self.spec.is_prenorm else self._postnorm_layer
        x = self._embed(batch, workspace)
        for spec, layer in zip(self.spec.layers, self.weights.layers, strict=True):
            run_layer(spec, layer, x, batch, workspace)
        if self.weights.final_norm is not None:
            self._norm(x, self.weights.final_norm, out=x)
        return x

    def _embed(self, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        weights = self.weights
        x = workspace.take("x", len(batch.ids), self.spec.hidden_size)
        self.engine.lookup(weights.word_embeddings, batch.ids, x)
        if batch.lora_ids is not None and len(weights.word_adapters):
            self.engine.adapt_lookup(weights.word_adapters, batch.ids, batch.lora_ids, x)
        if weights.position_embeddings is not None and self.spec.position_offset is not None:
            rows = workspace.take("delta", *x.shape)
            self.engine.lookup(weights.position_embeddings, batch.positions + self.spec.position_offset, rows)
            x += rows
        if weights.token_type is not None:
            x += weights.token_type
        if weights.embedding_norm is not None:
            self._norm(x, weights.embedding_norm, out=x)
        return x

    def _postnorm_layer(
        self, spec: LayerSpec, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace
    ) -> None:
        """x = norm(x + attention(x)); [x = norm(x + what was x;)] x = norm(x + mlp(x)); in place."""
        delta = workspace.take("delta", *x.shape)
        self.engine.multiply(
            self._attend(spec, layer, x, batch, workspace), layer.attention_out, batch.lora_ids, out=delta
        )
        if layer.residual_norm is None:
            self._norm(delta, layer.attention_norm, residual=x, out=x)
        else:
            self._norm(delta, layer.attention_norm, residual=x, out=delta)
            self._norm(delta, layer.residual_norm, residual=x, out=x)
        self.engine.multiply(self._mlp_inner(layer, x, batch, workspace), layer.down, batch.lora_ids, out=delta)
        self._norm(delta, layer.mlp_norm, residual=x, out=x)

    def _prenorm_layer(
        self, spec: LayerSpec, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace
    ) -> None:
        """x = x + attention(norm(x)); x = x + mlp(norm(x)); in place."""
        normed = x
        if layer.attention_norm is not None:
            normed = workspace.take("delta", *x.shape)
            self._norm(x, layer.attention_norm, out=normed)
        context = self._attend(spec, layer, normed, batch, workspace)
        self.engine.multiply(context, layer.attention_out, batch.lora_ids, residual=x, out=x)
        normed = workspace.take("delta", *x.shape)
        self._norm(x, layer.mlp_norm, out=normed)
        inner = self._mlp_inner(layer, normed, batch, workspace)
        self.engine.multiply(inner, layer.down, batch.lora_ids, residual=x, out=x)

    def _attend(
        self, spec: LayerSpec, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace
    ) -> np.ndarray:
        """The attended values, all heads side by side: (total_tokens, q_width)."""
        model = self.spec
        q, k, v = self._heads(layer, x, batch, workspace)
        cos, sin = (None, None) if spec.rotary is None else self._tables(spec.rotary, batch.max_seqlen)
        context = workspace.take("context", len(x), model.q_width)
        self.engine.attend(
            q,
            k,
            v,
            batch.cu_seqlens,
            batch.cu_seqlens,
            slopes=self._slopes,
            cos=cos,
            sin=sin,
            interleaved=spec.rotary is not None and spec.rotary.interleaved,
            bias_table=self.weights.relative_bias,
            causal=model.causal,
            window=spec.window,
            softmax_scale=model.scale,
            out=context.reshape(q.shape),
        )
        return context

    def _heads(
        self, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k and v, (total_tokens, heads, head_dim) each, normed where the model says so, without positions."""
        model = self.spec
        shape = (len(x), -1, model.head_dim)
        k_start, v_start = model.q_width, model.q_width + model.kv_width
        qkv = workspace.take("wide", len(x), v_start + model.kv_width)
        self.engine.multiply(x, layer.qkv, batch.lora_ids, out=qkv)
        q, k, v = qkv[:, :k_start], qkv[:, k_start:v_start], qkv[:, v_start:]
        for part, norm in ((q, layer.q_norm), (k, layer.k_norm)):
            if norm is not None:
                rows = part.reshape(shape) if model.qk_norm == "head" else part
                self._norm(rows, norm, out=rows)
        return q.reshape(shape), k.reshape(shape), v.reshape(shape)

    def _mlp_inner(self, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        """The MLP up to its widest point: (total_tokens, intermediate_size)."""
        inner = workspace.take("wide", len(x), self.spec.intermediate_size)
        self.engine.multiply(x, layer.up, batch.lora_ids, activation=self.spec.activation, out=inner)
        return inner

    def _norm(self, x: np.ndarray, norm: Norm | None, *, out: np.ndarray, residual: np.ndarray | None = None) -> None:
        """out = norm(x + residual), by the model's kind of norm; without a norm the sum alone."""
        if norm is None:
            out[...] = x if residual is None else x + residual
        else:
            self.engine.norm(x, norm, self.spec.norm, self.spec.norm_eps, residual=residual, out=out)

    def _tables(self, rotary: Rotary, length: int) -> tuple[np.ndarray, np.ndarray]:
        """RoPE's cos and sin for at least `length` places; they grow by doubling and are kept."""
        tables = self._rotary_tables.get(rotary)
        if tables is None or len(tables[0]) < length:
            grown = max(512, 1 << (length - 1).bit_length())
            cos, sin = rotary_tables(rotary, grown)
            tables = self._rotary_tables[rotary] = (self.engine.place(cos), self.engine.place(sin))
        return tables
