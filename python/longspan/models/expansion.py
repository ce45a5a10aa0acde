"""The forward pass of queries whose expansion tokens nobody attends to (ColBERT's attend_to_mask_tokens = false).

Queries end in a run of mask tokens. Each of them sees the query's own tokens, but neither other masks nor itself, and
none is seen. Attention over packed rows lets queries end where the keys end, and here the keys end first. So each row
is turned round: the masks come first, the query's tokens last, and both end together. Distances change their sign,
hence the bias table and the windows change sides; RoPE, which knows no places before the first key, is applied before.
"""

from __future__ import annotations

import numpy as np

from longspan.batch import PackedBatch
from longspan.models.encoder import TextEncoder
from longspan.models.engine import OpsEngine
from longspan.models.parts import EncoderWeights, LayerWeights
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.models.workspace import Workspace


class ExpansionEncoder(TextEncoder):
    """A TextEncoder in which the run of `expansion_id` at the end of a row sees what is before it, and is unseen."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights, engine: OpsEngine, expansion_id: int) -> None:
        super().__init__(spec, weights, engine)
        self._expansion_id = expansion_id
        table = weights.relative_bias
        self._turned_bias = None if table is None else np.ascontiguousarray(table[:, ::-1])

    def _attend(
        self, spec: LayerSpec, layer: LayerWeights, x: np.ndarray, batch: PackedBatch, workspace: Workspace
    ) -> np.ndarray:
        """The attended values, all heads side by side: (total_tokens, q_width)."""
        q, k, v = self._heads(layer, x, batch, workspace)
        if spec.rotary is not None:
            tables = self._tables(spec.rotary, batch.max_seqlen)
            for part in (q, k):
                rotate(part, spec.rotary, *(table[batch.positions] for table in tables))
        turned, seen, cu_seqlens_k = turn_rows(batch, self._expansion_id)
        found = np.empty(q.shape, np.float32)
        self.engine.attend(
            q[turned],
            k[seen],
            v[seen],
            batch.cu_seqlens,
            cu_seqlens_k,
            slopes=self._slopes,
            cos=None,
            sin=None,
            interleaved=False,
            bias_table=self._turned_bias,
            causal=False,
            window=self._turned_window(spec),
            softmax_scale=self.spec.scale,
            out=found,
        )
        context = workspace.take("context", len(x), self.spec.q_width)
        context[turned] = found.reshape(context.shape)
        return context

    def _turned_window(self, spec: LayerSpec) -> tuple[int, int] | None:
        """What was before a query is behind it now; a causal model sees nothing on the other side."""
        if spec.window is None and not self.spec.causal:
            return None
        left, right = spec.window or (-1, -1)
        return 0 if self.spec.causal else right, left


def turn_rows(batch: PackedBatch, expansion_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens of each row from its end to its start; of those the ones that are seen, and their cu_seqlens.

    Returns: (total_tokens,) and (total_seen,) int64, tokens by number; (rows + 1,) int32.
    """
    starts, ends = batch.cu_seqlens[:-1].astype(np.int64), batch.cu_seqlens[1:].astype(np.int64)
    own = np.where(batch.ids == expansion_id, -1, batch.positions)
    num_seen = np.maximum.reduceat(own, starts) + 1  # up to the last token that is no mask
    turned = np.repeat(starts + ends - 1, ends - starts) - np.arange(len(batch.ids))
    seen = turned[batch.positions[turned] < np.repeat(num_seen, ends - starts)]
    return turned, seen, np.concatenate([[0], np.cumsum(num_seen)]).astype(np.int32)


def rotate(x: np.ndarray, rotary: Rotary, cos: np.ndarray, sin: np.ndarray) -> None:
    """RoPE in place on (tokens, heads, head_dim); cos and sin (tokens, rotary.dim / 2) of each token's place."""
    half = rotary.dim // 2
    pairs = (
        (slice(0, rotary.dim, 2), slice(1, rotary.dim, 2))
        if rotary.interleaved
        else (slice(half), slice(half, 2 * half))
    )
    first, second = (x[..., pair].copy() for pair in pairs)
    cos, sin = cos[:, None, :], sin[:, None, :]
    x[..., pairs[0]] = first * cos - second * sin
    x[..., pairs[1]] = second * cos + first * sin
