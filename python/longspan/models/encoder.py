"""The forward pass, written once for every family: a `ModelSpec` says what happens, an engine does it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from longspan.checkpoint.safetensors_file import Watch
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.row_steps import row_steps
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import AttentionOptions, EncoderWeights
from longspan.models.positions import alibi_slopes, rotary_rows, rotary_tables
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.models.task_tokens import with_task_rows
from longspan.packing.batch import PackedBatch
from longspan.packing.media import FeatureBatch, MediaRow, of_batch

Heads: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # q, k and v, (total_tokens, heads, head_dim) each


class TextEncoder:
    """Token ids in, last hidden state out. Holds no state of a call: many threads may share one encoder."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights, engine: OpsEngine) -> None:
        self.spec = spec
        self.engine = engine
        self.watches: tuple[Watch, ...] = ()  # of the files in which embedding tables lie
        self.weights = weights
        self._slopes = engine.place(alibi_slopes(spec.num_heads)) if spec.alibi else None
        self._rotary_tables: dict[Rotary, tuple[np.ndarray, np.ndarray]] = {}
        rotary = [layer.rotary for layer in spec.layers if layer.rotary is not None]
        trained = [own.trained_tokens for own in rotary if own.trained_tokens is not None]
        self._trained_tokens = min(trained, default=None)
        self._outgrown_tables: list[tuple[np.ndarray, np.ndarray]] = []  # captured passes may still read them

    @property
    def weights(self) -> EncoderWeights:
        """What the model computes with; setting them is how adapters join."""
        return self._weights

    @weights.setter
    def weights(self, weights: EncoderWeights) -> None:
        spec, engine = self.spec, self.engine
        self._row_work = [engine.row_work(steps, spec.norm, spec.norm_eps) for steps in row_steps(spec, weights)]
        self._behind_norm = None
        if engine.has_embed_whole:
            opening = row_steps(spec, replace(weights, embedding_norm=None))[0]
            self._behind_norm = engine.row_work(opening, spec.norm, spec.norm_eps)
        self._weights = weights

    def forward(self, batch: PackedBatch, workspace: Workspace) -> np.ndarray:
        """The last hidden state, (total_tokens, hidden_size): memory of `workspace`, good until its next use."""
        return self.compute(self.engine.place_batch(self.prepare(batch)), workspace)

    def attach(self, batch: PackedBatch, rows: Sequence[MediaRow | None]) -> PackedBatch:
        """The batch with its features, and with the angles of their places; all on the host. `rows` are the batch's, in
        its order, None for those that are ids alone."""
        media = [(start, row) for start, row in zip(batch.cu_seqlens[:-1], rows, strict=True) if row is not None]
        if not media:
            return batch
        cos, sin = None, None
        rotary = next((layer.rotary for layer in self.spec.layers if layer.rotary is not None), None)
        if rotary is not None and rotary.sections:
            coordinates = np.repeat(batch.positions[:, None].astype(np.float32), len(rotary.sections), 1)
            for start, row in media:
                if row.coordinates is not None:
                    coordinates[start : start + len(row.ids)] = row.coordinates
            cos, sin = rotary_rows(rotary, coordinates)
        return FeatureBatch(
            **of_batch(batch),
            features=np.concatenate([row.features for _, row in media]),
            feature_rows=np.concatenate([start + row.feature_places for start, row in media]).astype(np.int32),
            cos=cos,
            sin=sin,
        )

    def prepare(self, batch: PackedBatch) -> PackedBatch:
        """The batch, with what else `compute` wants to know of it; all on the host.

        Raises: CheckpointError, a file that embeddings are read from was shortened; ValueError, a text needs RoPE
            tables of its own length, which only the CPU gives it.
        """
        for watch in self.watches:
            watch.check()
        trained = self._trained_tokens
        if trained is not None and batch.max_seqlen > trained and not self.engine.computes_on_host:
            raise ValueError(
                f"encode: a text has {batch.max_seqlen} tokens, and this model's RoPE goes by a text's length beyond "
                f"{trained}, which runs on the CPU alone; set max_length to {trained} or less"
            )
        if self.weights.task_tokens is not None:
            batch = with_task_rows(batch, self.weights.task_tokens)
        return self.engine.planned(batch, self.spec)

    def needs_one_token(self, batch: PackedBatch, by_row: Literal["first", "last"]) -> bool:
        """Whether `compute` can leave out, in the last layer, what is not for the one token that is wanted of a row.
        Its attention takes a row's last places for its queries, so the first one must not mind where it stands."""
        if not self.engine.computes_on_host or not self.spec.layers or batch.angles is not None:
            return False
        last, spec = self.spec.layers[-1], self.spec
        minds = last.rotary is not None or last.window is not None or spec.alibi or spec.relative_bias is not None
        if by_row == "first":
            return not (minds or spec.causal or last.is_windowed)
        return not last.is_windowed and (last.rotary is None or last.rotary.trained_tokens is None)

    def compute(self, batch: PackedBatch, workspace: Workspace, wanted: np.ndarray | None = None) -> np.ndarray:
        """`forward` of a prepared batch that lies where the engine computes.

        Args:
            wanted: (rows,) the one token of each row that the result holds, where `needs_one_token`; None for all.
        """
        spec, engine, tokens = self.spec, self.engine, batch.ids.shape[0]
        x = engine.take(workspace, "x", tokens, spec.hidden_size)
        if not spec.layers:
            self._embed(batch, x, workspace)
            return x
        qkv = engine.take_qkv(workspace, tokens, spec)
        context = engine.take(workspace, "context", tokens, spec.q_width)
        bound = {"x": x, "qkv": qkv, "context": context}
        heads = self._heads(qkv)
        attended = context.reshape(heads[0].shape)
        opening = self._row_work[0]
        if self._behind_norm is not None and engine.embeds_whole(batch, spec):
            engine.embed_whole(batch, self.weights, spec, out=x)
            opening = self._behind_norm
        else:
            self._embed(batch, x, workspace)
        opening.run(bound, batch.lora_ids, workspace)
        num_whole = spec.num_layers - (wanted is not None)
        for layer, work in zip(spec.layers[:num_whole], self._row_work[1:]):
            self._attend(layer, heads, attended, batch)
            work.run(bound, batch.lora_ids, workspace)
        return x if wanted is None else self._last_layer(bound, batch, wanted, workspace)

    def _last_layer(
        self, bound: Mapping[str, np.ndarray], batch: PackedBatch, wanted: np.ndarray, workspace: Workspace
    ) -> np.ndarray:
        """The last layer for one token a row, (rows, hidden_size): the same bits, for a fraction of the work."""
        layer, rows = self.spec.layers[-1], len(wanted)
        q, k, v = self._heads(bound["qkv"])
        tables = None if layer.rotary is None else self._tables(layer.rotary, batch.max_seqlen)
        context = np.empty((rows, self.spec.q_width), np.float32)
        each = np.arange(rows + 1, dtype=np.int32)
        options = self._options(layer, tables)
        self.engine.attend(q[wanted], k, v, each, batch.cu_seqlens, options, out=context.reshape(rows, *q.shape[1:]))
        x = bound["x"][wanted]
        lora_ids = None if batch.lora_ids is None else batch.lora_ids[wanted]
        self._row_work[-1].run({"x": x, "qkv": bound["qkv"][:rows], "context": context}, lora_ids, workspace)
        return x

    def _embed(self, batch: PackedBatch, x: np.ndarray, workspace: Workspace) -> None:
        """x = the embeddings of the batch's tokens, before any norm."""
        weights, engine = self.weights, self.engine
        engine.embed(batch, weights, self.spec.position_offset or 0, out=x)
        if self.spec.embedding_scale is not None:
            engine.scale(x, self.spec.embedding_scale)
        if batch.lora_ids is not None and len(weights.word_adapters):
            engine.adapt_lookup(weights.word_adapters, batch.ids, batch.lora_ids, x)
        if isinstance(batch, FeatureBatch):
            engine.put(batch.features, batch.feature_rows, out=x)

    def _attend(self, layer: LayerSpec, heads: Heads, out: np.ndarray, batch: PackedBatch) -> None:
        """out = the attended values, (total_tokens, heads, head_dim)."""
        q, k, v = heads
        trained = None if layer.rotary is None else layer.rotary.trained_tokens
        if layer.rotary is None or trained is None or batch.max_seqlen <= trained or not self.engine.computes_on_host:
            offsets, tables = batch.offsets(layer.is_windowed), None
            if layer.rotary is not None:
                tables = batch.angles or self._tables(layer.rotary, batch.max_seqlen)
            options = self._options(layer, tables, rotary_by_key=batch.angles is not None)
            self.engine.attend(q, k, v, offsets, offsets, options, out=out, batch=batch)
            return
        # Texts beyond the trained length, which come first, each by themselves: their frequencies go by their length.
        starts = batch.cu_seqlens.tolist()
        num_long = int(np.count_nonzero(np.diff(batch.cu_seqlens) > trained))
        groups = [(row, row + 1) for row in range(num_long)]
        if num_long < len(starts) - 1:
            groups.append((num_long, len(starts) - 1))
        for first, end in groups:
            part, offsets = slice(starts[first], starts[end]), batch.cu_seqlens[first : end + 1] - starts[first]
            is_long = first < num_long
            tables = long_tables(layer.rotary, int(offsets[-1])) if is_long else self._tables(layer.rotary, trained)
            self.engine.attend(q[part], k[part], v[part], offsets, offsets, self._options(layer, tables), out=out[part])

    def _options(
        self, layer: LayerSpec, tables: tuple[np.ndarray, np.ndarray] | None, *, rotary_by_key: bool = False
    ) -> AttentionOptions:
        """Everything that bends this layer's attention; `rotary_by_key`: the tables have a row for each token."""
        spec, (cos, sin) = self.spec, (None, None) if tables is None else tables
        return AttentionOptions(
            softmax_scale=spec.scale,
            slopes=self._slopes,
            cos=cos,
            sin=sin,
            interleaved=layer.rotary is not None and layer.rotary.interleaved,
            bias_table=self.weights.relative_bias,
            causal=spec.causal,
            window=layer.window,
            rotary_by_key=rotary_by_key and tables is not None,
        )

    def _heads(self, qkv: np.ndarray) -> Heads:
        """q, k and v, (total_tokens, heads, head_dim) each, in the memory of qkv."""
        k_start, v_start = self.spec.q_width, self.spec.q_width + self.spec.kv_width
        parts = (qkv[:, :k_start], qkv[:, k_start:v_start], qkv[:, v_start:])
        q, k, v = (part.reshape(part.shape[0], -1, self.spec.head_dim) for part in parts)
        return q, k, v

    def _tables(self, rotary: Rotary, length: int) -> tuple[np.ndarray, np.ndarray]:
        """RoPE's cos and sin for at least `length` places; they grow by doubling and are kept."""
        tables = self._rotary_tables.get(rotary)
        if tables is None or tables[0].shape[0] < length:
            grown = max(512, 1 << (length - 1).bit_length())
            cos, sin = rotary_tables(rotary, grown)
            if tables is not None:
                self._outgrown_tables.append(tables)
            tables = self._rotary_tables[rotary] = (self.engine.place(cos), self.engine.place(sin))
        return tables


@functools.lru_cache(maxsize=16)
def long_tables(rotary: Rotary, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of one text of `length` tokens, whose frequencies go by its length."""
    return rotary_tables(rotary, length, length)
