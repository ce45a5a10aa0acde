"""The forward pass, written once for every family: a `ModelSpec` says what happens, ops do it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from longspan.batch import PackedBatch
from longspan.models.adapters import Product, TableAdapter
from longspan.models.positions import alibi_slopes, rotary_tables
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.models.weights import EncoderWeights, LayerWeights, Norm
from longspan.models.workspace import Workspace
from longspan.ops import attention_varlen, layer_norm, linear, rms_norm
from longspan.ops.linear import Activation


class TextEncoder:
    """Token ids in, last hidden state out. Holds no state of a call: many threads may share one encoder."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights) -> None:
        self.spec = spec
        self.weights = weights
        self._slopes = alibi_slopes(spec.num_heads) if spec.alibi else None
        self._rotary_tables: dict[Rotary, tuple[np.ndarray, np.ndarray]] = {}

    def forward(self, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        """The last hidden state, (total_tokens, hidden_size) f32: memory of `workspace`, good until its next use."""
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
        _lookup(weights.word_embeddings, batch.ids, x)
        if batch.lora_ids is not None:
            _adapt_lookup(weights.word_adapters, batch.ids, batch.lora_ids, x)
        if weights.position_embeddings is not None and self.spec.position_offset is not None:
            rows = workspace.take("delta", *x.shape)
            _lookup(weights.position_embeddings, batch.positions + self.spec.position_offset, rows)
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
        _multiply(self._attend(spec, layer, x, batch, workspace), layer.attention_out, batch, out=delta)
        if layer.residual_norm is None:
            self._norm(delta, layer.attention_norm, residual=x, out=x)
        else:
            self._norm(delta, layer.attention_norm, residual=x, out=delta)
            self._norm(delta, layer.residual_norm, residual=x, out=x)
        _multiply(self._mlp_inner(layer, x, batch, workspace), layer.down, batch, out=delta)
        self._norm(delta, layer.mlp_norm, residual=x, out=x)

    def _prenorm_layer(
        self, spec: LayerSpec, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace
    ) -> None:
        """x = x + attention(norm(x)); x = x + mlp(norm(x)); in place."""
        normed = x
        if layer.attention_norm is not None:
            normed = workspace.take("delta", *x.shape)
            self._norm(x, layer.attention_norm, out=normed)
        _multiply(self._attend(spec, layer, normed, batch, workspace), layer.attention_out, batch, residual=x, out=x)
        normed = workspace.take("delta", *x.shape)
        self._norm(x, layer.mlp_norm, out=normed)
        _multiply(self._mlp_inner(layer, normed, batch, workspace), layer.down, batch, residual=x, out=x)

    def _attend(
        self, spec: LayerSpec, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace
    ) -> np.ndarray:
        """The attended values, all heads side by side: (total_tokens, q_width)."""
        model = self.spec
        tokens, head_dim = len(x), model.head_dim
        qkv = workspace.take("wide", tokens, model.q_width + 2 * model.kv_width)
        _multiply(x, layer.qkv, batch, out=qkv)
        q, k, v = np.split(qkv, (model.q_width, model.q_width + model.kv_width), axis=1)
        for part, norm in ((q, layer.q_norm), (k, layer.k_norm)):
            if norm is not None:
                rows = part.reshape(tokens, -1, head_dim) if model.qk_norm == "head" else part
                self._norm(rows, norm, out=rows)
        cos, sin = (None, None) if spec.rotary is None else self._tables(spec.rotary, batch.max_seqlen)
        context = workspace.take("context", tokens, model.q_width)
        attention_varlen(
            q.reshape(tokens, model.num_heads, head_dim),
            k.reshape(tokens, model.kv_heads, head_dim),
            v.reshape(tokens, model.kv_heads, head_dim),
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
            out=context.reshape(tokens, model.num_heads, head_dim),
        )
        return context

    def _mlp_inner(self, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        """The MLP up to its widest point: (total_tokens, intermediate_size)."""
        inner = workspace.take("wide", len(x), self.spec.intermediate_size)
        _multiply(x, layer.up, batch, activation=self.spec.activation, out=inner)
        return inner

    def _norm(self, x: np.ndarray, norm: Norm | None, *, out: np.ndarray, residual: np.ndarray | None = None) -> None:
        """out = norm(x + residual), by the model's kind of norm; without a norm the sum alone."""
        eps = self.spec.norm_eps
        if norm is None:
            np.add(x, 0 if residual is None else residual, out=out)
        elif self.spec.norm == "layer_norm":
            layer_norm(x, norm.weight, norm.bias, eps=eps, residual=residual, out=out)
        else:
            rms_norm(x, norm.weight, eps=eps, residual=residual, out=out)

    def _tables(self, rotary: Rotary, length: int) -> tuple[np.ndarray, np.ndarray]:
        """RoPE's cos and sin for at least `length` places; they grow by doubling and are kept."""
        tables = self._rotary_tables.get(rotary)
        if tables is None or len(tables[0]) < length:
            grown = max(512, 1 << (length - 1).bit_length())
            tables = self._rotary_tables[rotary] = rotary_tables(rotary, grown)
        return tables


def _lookup(table: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """out = table[rows] as f32. Rows are within the table: the tokenizer and `encode_ids` see to it."""
    if table.dtype == np.float32:
        np.take(table, rows, axis=0, out=out, mode="clip")  # "raise" would go through a copy
    else:
        out[...] = table[rows]


def _multiply(
    x: np.ndarray,
    product: Product,
    batch: PackedBatch,
    *,
    out: np.ndarray,
    activation: Activation | None = None,
    residual: np.ndarray | None = None,
) -> None:
    """out = activation(x W^T + each row's adapter) + residual."""
    lora = None if batch.lora_ids is None else product.lora
    lora_ids = None if lora is None else batch.lora_ids
    linear(x, product.weight, activation=activation, residual=residual, lora=lora, lora_ids=lora_ids, out=out)


def _adapt_lookup(
    adapters: Sequence[TableAdapter | None], ids: np.ndarray, lora_ids: np.ndarray, x: np.ndarray
) -> None:
    """Add to the embeddings x, in place, what each token's adapter says of it."""
    for number, adapter in enumerate(adapters):
        tokens = np.flatnonzero(lora_ids == number)
        if adapter is not None and tokens.size:
            x[tokens] += linear(adapter.rows[ids[tokens]], adapter.expand)
