"""The engine of the CPU: its kernels, called directly.

The encoder hands over its own buffers, whose shapes are right by construction, to kernels that guard their memory
themselves; a short query's kernels take microseconds, and the public ops' checks would cost more than some of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from longspan import _core
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.row_steps import Route, Step
from longspan.models.engines.row_work import Chained, RowWork
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import AttentionOptions, EncoderWeights, Norm, Product
from longspan.models.spec import ModelSpec, NormKind
from longspan.ops.activations import Activation
from longspan.ops.attention_varlen import key_limits
from longspan.packing.batch import PackedBatch


class CpuEngine(OpsEngine):
    """Computes by the CPU's kernels, on NumPy arrays."""

    reads_table_bits = True

    def take_qkv(self, workspace: Workspace, tokens: int, spec: ModelSpec) -> np.ndarray:
        """With products in bf16, its bits, which are half to write and to read: where nothing happens to q and k
        between the product and the attention, either of the two may round them."""
        is_untouched = spec.qk_norm is None and all(layer.rotary is None for layer in spec.layers)
        is_stored = self.attention_dtype != "float32" and _core.attention_reads_bf16() and spec.head_dim % 32 == 0
        if not (is_untouched and is_stored):
            return super().take_qkv(workspace, tokens, spec)
        width = spec.q_width + 2 * spec.kv_width  # even, as head_dim is
        return workspace.take("qkv", tokens, width // 2).view(np.uint16)

    def row_work(self, steps: Sequence[Step], kind: NormKind, eps: float) -> RowWork:
        # Experts want all of their rows at once: a block's would be few for the weights that are read.
        return (
            super().row_work(steps, kind, eps)
            if any(isinstance(step, Route) for step in steps)
            else Chained(steps, kind, eps)
        )

    def embed(self, batch: PackedBatch, weights: EncoderWeights, position_offset: int, *, out: np.ndarray) -> None:
        tables = (weights.word_embeddings, batch.ids, weights.position_embeddings, batch.positions, position_offset)
        if batch.types is None:
            _core.embed(*tables, weights.token_type, out)
        else:
            _core.embed(*tables, None, out, self._token_types(weights), batch.types)

    def multiply(
        self,
        x: np.ndarray,
        product: Product,
        lora_ids: np.ndarray | None,
        *,
        out: np.ndarray,
        activation: Activation | None = None,
        residual: np.ndarray | None = None,
    ) -> None:
        lora, lora_ids = (None, None) if lora_ids is None or product.lora is None else (product.lora, lora_ids)
        _core.linear(x, product.weight, activation, residual, out, lora, lora_ids)

    def norm(
        self,
        x: np.ndarray,
        norm: Norm,
        kind: NormKind,
        eps: float,
        *,
        out: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> None:
        _core.layer_norm(x, residual, norm.weight, norm.bias, eps, kind == "layer_norm", out)

    def attend(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        cu_seqlens_q: np.ndarray,
        cu_seqlens_k: np.ndarray,
        options: AttentionOptions,
        *,
        out: np.ndarray,
        batch: PackedBatch | None = None,
    ) -> None:
        left, right = key_limits(options.causal, options.window)
        tables = (options.slopes, options.cos, options.sin, options.interleaved, options.bias_table)
        rest = (left, right, options.softmax_scale, out, self.attention_dtype)
        by_key = options.rotary_by_key
        _core.attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, *tables, *rest, rotary_by_key=by_key)
