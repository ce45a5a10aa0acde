"""The forward pass of queries whose expansion tokens nobody attends to (ColBERT's attend_to_mask_tokens = false).

Queries end in a run of mask tokens. Each of them sees the query's own tokens, but neither other masks nor itself, and
none is seen. Attention over packed rows lets queries end where the keys end, and here the keys end first. So each row
is turned round: the masks come first, the query's tokens last, and both end together. Distances change their sign,
hence the bias table and the windows change sides; RoPE, which knows no places before the first key, is applied before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from longspan.models.encoder import Heads, TextEncoder
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import AttentionOptions, EncoderWeights
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.packing.batch import PackedBatch
from longspan.packing.buckets import Bucket, fill, fill_offsets


class ExpansionEncoder(TextEncoder):
    """A TextEncoder in which the run of `expansion_id` at the end of a row sees what is before it, and is unseen."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights, engine: OpsEngine, expansion_id: int) -> None:
        super().__init__(spec, weights, engine)
        self._expansion_id = expansion_id
        table = weights.relative_bias
        self._turned_bias = (
            None if table is None else engine.place(np.ascontiguousarray(engine.to_host(table)[:, ::-1]))
        )

    def needs_one_token(self, batch: PackedBatch, by_row: Literal["first", "last"]) -> bool:
        return False

    def prepare(self, batch: PackedBatch) -> TurnedBatch:
        return turn_rows(batch, self._expansion_id)

    def _attend(self, layer: LayerSpec, heads: Heads, context: np.ndarray, batch: PackedBatch) -> None:
        q, k, v = heads
        assert isinstance(batch, TurnedBatch)
        if layer.rotary is not None:
            tables = self._tables(layer.rotary, batch.max_seqlen)
            for part in (q, k):
                rotate(part, layer.rotary, *(table[batch.positions] for table in tables))
        found = self.engine.empty(*q.shape)
        options = AttentionOptions(
            softmax_scale=self.spec.scale,
            slopes=self._slopes,
            cos=None,
            sin=None,
            interleaved=False,
            bias_table=self._turned_bias,
            causal=False,
            window=self._turned_window(layer),
        )
        rows = (q[batch.turned], k[batch.seen], v[batch.seen])
        self.engine.attend(*rows, batch.cu_seqlens, batch.cu_seqlens_seen, options, out=found)
        context[batch.turned] = found

    def _turned_window(self, layer: LayerSpec) -> tuple[int, int] | None:
        """What was before a query is behind it now; a causal model sees nothing on the other side."""
        if layer.window is None and not self.spec.causal:
            return None
        left, right = layer.window or (-1, -1)
        return 0 if self.spec.causal else right, left


@dataclass(frozen=True, slots=True, eq=False)
class TurnedBatch(PackedBatch):
    """A batch, and its rows turned round.

    Attributes:
        turned: (total_tokens,) int64, the tokens of each row by number, from its end to its start.
        seen: (total_seen,) int64, those of them that are seen.
        cu_seqlens_seen: (rows + 1,) int32, from 0 to total_seen.
    """

    turned: np.ndarray
    seen: np.ndarray
    cu_seqlens_seen: np.ndarray

    def filled(self, bucket: Bucket) -> TurnedBatch:
        # What the added row sees is the first token, as often as there is room for: its result is dropped.
        batch = PackedBatch.filled(self, bucket)
        assert isinstance(batch, TurnedBatch)
        added = np.arange(len(self.turned), bucket.tokens)
        return replace(
            batch,
            turned=np.concatenate([self.turned, added]),
            seen=fill(self.seen, bucket.tokens),
            cu_seqlens_seen=fill_offsets(self.cu_seqlens_seen, bucket),
        )


def turn_rows(batch: PackedBatch, expansion_id: int) -> TurnedBatch:
    """`batch` with its rows turned round; unseen is the run of `expansion_id` that ends a row."""
    starts, ends = batch.cu_seqlens[:-1].astype(np.int64), batch.cu_seqlens[1:].astype(np.int64)
    own = np.where(batch.ids == expansion_id, -1, batch.positions)
    num_seen = np.maximum.reduceat(own, starts) + 1  # up to the last token that is no mask
    turned = np.repeat(starts + ends - 1, ends - starts) - np.arange(len(batch.ids))
    seen = turned[batch.positions[turned] < np.repeat(num_seen, ends - starts)]
    cu_seqlens_seen = np.concatenate([[0], np.cumsum(num_seen)]).astype(np.int32)
    given = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return TurnedBatch(**given, turned=turned, seen=seen, cu_seqlens_seen=cu_seqlens_seen)


def rotate(x: np.ndarray, rotary: Rotary, cos: np.ndarray, sin: np.ndarray) -> None:
    """RoPE in place on (tokens, heads, head_dim); cos and sin (tokens, rotary.dim / 2) of each token's place."""
    half = rotary.dim // 2
    pairs = (
        (slice(0, rotary.dim, 2), slice(1, rotary.dim, 2))
        if rotary.interleaved
        else (slice(half), slice(half, 2 * half))
    )
    first, second = (x[..., pair] for pair in pairs)
    cos, sin = cos[:, None, :], sin[:, None, :]
    turned = first * cos - second * sin
    x[..., pairs[1]] = second * cos + first * sin
    x[..., pairs[0]] = turned
