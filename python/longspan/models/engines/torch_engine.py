"""The engine of a GPU: torch tensors, our Triton kernels, and cuBLAS through torch for the matrix products.

Activations and matrices have the compute type; norms, tables of positions, sums, softmax and pooled vectors are
float32. Nothing waits for the device before a result is fetched, so batches queue up there while the host prepares the
next. Weights are copied before anything runs, and waited for: any stream may use them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from typing import Final

import numpy as np
import torch

from longspan.kernels.attention_varlen_forward import Options, Tiles, prepared_attention, tile_config
from longspan.kernels.embed import TableLora, embed
from longspan.kernels.launch import architecture
from longspan.kernels.layer_norm import prepared_norm
from longspan.kernels.linear import DenseLinear, DenseLora, dense_linear, widened
from longspan.kernels.pool_logits import pool_logits
from longspan.kernels.rope import prepared_rotation
from longspan.models.engines.engine import Batch, Fetch, OpsEngine, Pass
from longspan.models.engines.torch_copies import copies_for
from longspan.models.engines.torch_graphs import CudaRecorder, Graphs, Recorder
from longspan.models.engines.torch_merged import merged_weights
from longspan.models.engines.torch_streams import LAUNCHING, numbered, settle
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import AttentionOptions, EncoderWeights, Experts, Norm, Product
from longspan.models.spec import ModelSpec, NormKind
from longspan.ops import pool_mean, span_mean
from longspan.ops.activations import Activation, Gate
from longspan.ops.attention_varlen import key_limits
from longspan.ops.pool_logits import LogitPooling, Saturation
from longspan.packing.batch import PackedBatch
from longspan.packing.buckets import AT_ONCE, bucket_for
from longspan.packing.selection import Selection
from longspan.vectors.unit_length import SMALLEST_NORM

SHORT = 64  # mean tokens of a row up to which tiles of attention have as few rows


class TorchEngine(OpsEngine):
    """Computes on one device, on torch's current stream, by the kernels' launchers: shapes are right by construction.

    Args:
        device: such as "cuda" or "cuda:1"; "cpu" runs the kernels in Triton's interpreter, for tests.
        dtype: "bfloat16", "float16" or "float32".
        cuda_graphs: whether small batches run as CUDA graphs.
        recorder: what makes graphs; None for CUDA's own on a GPU, and for none elsewhere.
    """

    computes_on_host = False
    batches_ahead = 2
    batch_tokens = 16384  # what fills a large GPU
    has_embed_whole = True

    def __init__(self, device: str, dtype: str, *, cuda_graphs: bool = True, recorder: Recorder | None = None) -> None:
        super().__init__()
        self.device: Final = numbered(torch.device(device))
        self.dtype = dtype
        self._type: Final[torch.dtype] = getattr(torch, dtype)
        self._copies: Final = copies_for(self.device)
        self._merged: Final = merged_weights(self.device)
        # Layers have their rows in the same memory, so most launches are prepared once a pass and made for each layer,
        # with its own weights. Keys are of tensors' ids; what a key names lives as long as its launch.
        self._kept: dict[Hashable, Callable[..., object]] = {}
        self._room = 0  # columns behind each row of activations that products read, for their adapters
        if recorder is None and self.device.type == "cuda":
            recorder = CudaRecorder(self.device)
        self._graphs: Graphs | None = None
        if cuda_graphs and recorder is not None:
            self._graphs = Graphs(self._copies, recorder, self.device)

    def describe(self, weights: EncoderWeights) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "Triton's interpreter"
        return f"triton kernels ({name}), {self.dtype}"

    def _upload(self, values: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A copy on the device, which the host has waited for."""
        return torch.from_numpy(np.array(values)).to(self.device, dtype)  # an array, out of a mapped, read-only file

    def pack(
        self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None] | None = None, gate: Gate | None = None
    ) -> DenseLinear:
        bias = None
        if biases is not None and any(part is not None for part in biases):
            zeros = (np.zeros(len(weight), np.float32) for weight in weights)
            bias = np.concatenate([none if part is None else part for part, none in zip(biases, zeros, strict=True)])
        weight = self._upload(np.concatenate([*weights]), self._type)
        return DenseLinear(weight, None if bias is None else self._upload(bias, self._type), gate)

    def pack_exactly(self, weight: np.ndarray, bias: np.ndarray | None) -> DenseLinear:
        return self.pack([weight], [bias])  # rows and weights have one type here

    def pack_lora(self, lora_a: np.ndarray, lora_b: np.ndarray, scaling: float, base: DenseLinear) -> DenseLora:
        a, b = self._upload(lora_a * np.float32(scaling), self._type), self._upload(lora_b, self._type)
        lora = DenseLora(a, b, self._upload(np.ones(len(lora_a), np.float32)))
        lora.fold(base)
        settle(self.device)
        self._room = max(self._room, lora.added)
        return lora

    def table_adapters(
        self, rows: np.ndarray, expand: np.ndarray, token_type: np.ndarray
    ) -> TableLora:  # `embed_whole` gets it back
        turned = np.ascontiguousarray(expand.transpose(0, 2, 1))
        return TableLora(*(self._upload(part, self._type) for part in (rows, turned, token_type)))

    def table(self, values: np.ndarray) -> torch.Tensor:
        return self._upload(values, self._type)

    def vector(self, values: np.ndarray) -> torch.Tensor:
        return self._upload(values, torch.float32)

    def place(self, values: np.ndarray | torch.Tensor) -> torch.Tensor:
        return values if isinstance(values, torch.Tensor) else self._upload(values)

    def place_batch(self, batch: Batch) -> Batch:
        return replace(batch, **dict(zip(_arrays(batch), self._copies.send([*_arrays(batch).values()]))))

    def start(self, work: Pass, batch: PackedBatch, selection: Selection, workspace: Workspace) -> Fetch:
        with self._plainly():
            if batch.adapter is not None and batch.adapter >= 0:
                with LAUNCHING.a_pass():
                    work = self._merged.pass_for(work, batch.adapter)
            bucket = bucket_for(len(batch.ids), len(batch.indices)) if selection.fills and batch.fills else None
            if self._graphs is None or bucket is None:
                batch = batch.tiled(fixed_size=False)
            else:
                batch, selection = batch.filled(bucket).tiled(fixed_size=True), selection.filled(bucket)
                fetch = self._replay(self._graphs, work, batch, selection)
                if fetch is not None:
                    return fetch
            batch, selection = self._placed(batch, selection, self._copies.send(_all_arrays(batch, selection)))
            return self._copies.fetch(self._run(work, batch, selection, workspace)[: selection.num_results])

    def _run(self, work: Pass, batch: PackedBatch, selection: Selection, workspace: Workspace) -> torch.Tensor:
        """The pass; nothing of it is kept that would hold its memory."""
        try:
            with LAUNCHING.a_pass():
                result: torch.Tensor = work.run(batch, selection, workspace)
            return result
        finally:
            self._kept = {}

    def _replay(self, graphs: Graphs, work: Pass, batch: PackedBatch, selection: Selection) -> Fetch | None:
        """`start` of a batch that was filled up, as a graph."""

        def launch(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            return self._run(work, *self._placed(batch, selection, tensors), Workspace(self.empty))

        kind = type(batch), batch.tile_rows, batch.groups_rows, *_arrays(batch), *_arrays(selection)
        tokens, rows = len(batch.ids), len(batch.cu_seqlens) - 1
        name, at_once = f"{tokens} tokens in {rows} rows", tokens <= AT_ONCE
        arrays, num = _all_arrays(batch, selection), selection.num_results
        return graphs.start((work.key, kind), arrays, launch, num, name=name, at_once=at_once)

    def _placed(self, batch: Batch, selection: Selection, tensors: Sequence[torch.Tensor]) -> tuple[Batch, Selection]:
        """Both with `tensors` in the place of their arrays, which `_all_arrays` has listed."""
        of_batch, of_selection = _arrays(batch), _arrays(selection)
        batch = replace(batch, **dict(zip(of_batch, tensors)))
        return batch, replace(selection, **dict(zip(of_selection, tensors[len(of_batch) :])))

    @contextmanager
    def computing(self) -> Iterator[None]:
        with self._plainly(), LAUNCHING.a_pass():
            yield

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """On this device; and whatever the caller has told torch, tensors are such as any other call may write to, and
        products are of the types that they are given."""
        with ExitStack() as entered:
            entered.enter_context(torch.inference_mode(False))
            entered.enter_context(torch.no_grad())
            if torch.is_autocast_enabled(self.device.type):
                entered.enter_context(torch.autocast(self.device.type, enabled=False))
            if self.device.type == "cuda":
                entered.enter_context(torch.cuda.device(self.device))
            yield

    def adopt(self, workspace: Workspace) -> None:
        """The caller's stream may be another than the one on which the buffers were allocated, and to which their
        memory would return at once when they grow, while kernels of this stream still use it."""
        if self.device.type == "cuda":
            current = torch.cuda.current_stream(self.device)
            for buffer in workspace.buffers():
                buffer.record_stream(current)  # type: ignore[attr-defined]  # torch tensors here

    def to_host(self, values: np.ndarray | torch.Tensor) -> np.ndarray:
        return values.float().cpu().numpy() if isinstance(values, torch.Tensor) else values

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self._type, device=self.device)

    def embed(self, batch: PackedBatch, weights: EncoderWeights, position_offset: int, *, out: torch.Tensor) -> None:
        torch.index_select(weights.word_embeddings, 0, batch.ids, out=out)
        if weights.position_embeddings is not None:
            out += weights.position_embeddings[batch.positions + position_offset]
        if batch.types is not None:
            out += self._token_types(weights)[batch.types]
        elif weights.token_type is not None:
            out += weights.token_type

    def put(self, values: torch.Tensor, rows: torch.Tensor | None, *, out: torch.Tensor) -> None:
        out[slice(None) if rows is None else rows] = values.to(out.dtype)

    def add_mixed(self, table: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor, *, out: torch.Tensor) -> None:
        mixed = table[rows[:, 0]] * weights[:, 0, None]
        for tap in range(1, rows.shape[1]):
            mixed += table[rows[:, tap]] * weights[:, tap, None]
        out += mixed

    def adapt_lookup(self, adapters: TableLora, ids: torch.Tensor, lora_ids: torch.Tensor, x: torch.Tensor) -> None:
        """Where `embed_whole` does not."""
        adapts = (lora_ids >= 0) & (lora_ids < len(adapters))  # later ones adapt no table
        task = torch.where(adapts, lora_ids, 0).long()
        part = torch.einsum("nr,nrd->nd", adapters.rows[task, ids.long()].float(), adapters.expand[task].float())
        x += (part + adapters.token_type[task].float()) * adapts[:, None]

    def take(self, workspace: Workspace, name: str, rows: int, columns: int) -> torch.Tensor:
        """With room behind each row for what adapters add to a product's depth."""
        return workspace.take(name, rows, columns, self._room)

    def planned(self, batch: PackedBatch, spec: ModelSpec) -> PackedBatch:
        if batch.offsets(False) is not batch.cu_seqlens:  # not every row sees all of its own
            return batch
        is_short = len(batch.ids) <= SHORT * (len(batch.cu_seqlens) - 1)
        config = tile_config(self._type, spec.head_dim, architecture(self.device), is_short)
        return replace(batch, tile_rows=config.block_m, groups_rows=is_short)

    def embeds_whole(self, batch: PackedBatch, spec: ModelSpec) -> bool:
        return batch.fills and batch.types is None and spec.embedding_scale is None

    def embed_whole(self, batch: PackedBatch, weights: EncoderWeights, spec: ModelSpec, *, out: torch.Tensor) -> None:
        norm, adapters, places = weights.embedding_norm, weights.word_adapters, weights.position_embeddings
        adapts = batch.lora_ids is not None and len(adapters) > 0
        embed(
            batch.ids,
            weights.word_embeddings,
            out,
            positions=None if places is None else batch.positions,
            places=places,
            offset=spec.position_offset or 0,
            token_type=weights.token_type,
            lora_ids=batch.lora_ids if adapts else None,
            adapters=adapters if adapts else None,
            norm=None if norm is None else (norm.weight, norm.bias if spec.norm == "layer_norm" else None),
            eps=spec.norm_eps,
            centred=spec.norm == "layer_norm",
        )

    def multiply(
        self,
        x: torch.Tensor,
        product: Product,
        lora_ids: torch.Tensor | None,
        *,
        out: torch.Tensor,
        activation: Activation | None = None,
        residual: torch.Tensor | None = None,
    ) -> None:
        if x.dtype != self._type:  # pooled vectors
            x = x.to(self._type)
        if residual is not None and residual.dtype != self._type:
            residual = residual.to(self._type)
        lora = None if lora_ids is None else product.lora
        added: int = 0 if lora is None else lora.added  # type: ignore[attr-defined]  # a DenseLora here
        wide = None if added == 0 else self._widened(x, added)
        dense_linear(
            x,
            product.weight,
            activation=activation,
            residual=residual,
            lora=lora,
            lora_ids=lora_ids,
            out=out,
            wide=wide,
            kept=self._kept,
        )

    def _widened(self, x: torch.Tensor, added: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """See `dense_linear`; None for rows that `take` did not give. All layers have the same ones: what is found is
        kept with the tensor, and goes with it."""
        kept = getattr(x, "_longspan_wide", None)
        if kept is not None and kept[0] == added:
            found: tuple[torch.Tensor, torch.Tensor] = kept[1]
            return found
        if x.stride(0) != x.shape[1] + self._room or added > self._room:
            return None
        found = widened(x, added)
        x._longspan_wide = added, found
        return found

    def norm(
        self,
        x: torch.Tensor,
        norm: Norm,
        kind: NormKind,
        eps: float,
        *,
        out: torch.Tensor,
        residual: torch.Tensor | None = None,
    ) -> None:
        is_centred = kind == "layer_norm"
        weights = (norm.weight,) if not is_centred or norm.bias is None else (norm.weight, norm.bias)
        key = id(x), id(out), id(residual), len(weights), is_centred, eps
        launch = self._kept.get(key)
        if launch is None:
            bias = weights[1] if len(weights) > 1 else None
            launch = self._kept[key] = prepared_norm(x, norm.weight, bias, eps, residual, out, centred=is_centred)
        launch(*weights)

    def attend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        options: AttentionOptions,
        *,
        out: torch.Tensor,
        batch: PackedBatch | None = None,
    ) -> None:
        """As `OpsEngine.attend`; q and k of a batch are rotated in place before, which the next layer does not see."""
        named = q, out, batch, options.cos, cu_seqlens_q
        key = *map(id, named), options.causal, options.window, options.softmax_scale
        attend = self._kept.get(key)
        if attend is None:
            launches = [*self._launches(q, k, v, cu_seqlens_q, cu_seqlens_k, options, out, batch)]

            def attend(_named: object = named) -> None:
                for launch in launches:
                    launch()

            if batch is not None:
                self._kept[key] = attend
        attend()

    def _launches(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        options: AttentionOptions,
        out: torch.Tensor,
        batch: PackedBatch | None,
    ) -> Iterator[Callable[[], object]]:
        """What an attention launches: the rotation of q and k, where that can be in place, and the attention."""
        cos, sin, interleaved, by_key = options.cos, options.sin, options.interleaved, options.rotary_by_key
        is_whole = batch is not None and cu_seqlens_q is batch.cu_seqlens  # each row sees all of its own
        if cos is not None and sin is not None and batch is not None and (is_whole or by_key):
            for part in _to_rotate(q, k):
                yield prepared_rotation(part, None if by_key else batch.positions, cos, sin, interleaved=interleaved)
            cos = sin = None
            interleaved = by_key = False
        tiles = None
        if is_whole and batch is not None and batch.tiles is not None:
            tiles = Tiles(batch.tiles, batch.spans, batch.tile_rows)
        left, right = key_limits(options.causal, options.window)
        how = (options.softmax_scale, options.slopes, options.bias_table, cos, sin, interleaved, by_key, left, right)
        yield self._prepared(q, k, v, cu_seqlens_q, cu_seqlens_k, how, out, tiles)

    def _prepared(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        how: tuple[object, ...],
        out: torch.Tensor,
        tiles: Tiles | None,
    ) -> Callable[[], object]:
        """A launch of attention; `how` are the fields of its `Options`."""
        options = Options(*how)
        rotates_on_load = options.cos is not None
        mean = q.shape[0] // max(1, cu_seqlens_q.shape[0] - 1)
        is_short = (mean if tiles is None else tiles.rows) <= SHORT
        arch, has_window = architecture(self.device), options.window_left is not None
        config = tile_config(q.dtype, q.shape[-1], arch, is_short, rotates_on_load, has_window)
        rows = (q, k, v, cu_seqlens_q, cu_seqlens_k)
        return prepared_attention(*rows, options, out, None, config, tiles, rotates_on_load=rotates_on_load)

    def add(self, x: torch.Tensor, residual: torch.Tensor, *, out: torch.Tensor) -> None:
        torch.add(x, residual, out=out)

    def scale(self, x: torch.Tensor, factor: float) -> None:
        x.mul_(factor)

    def route(self, x: torch.Tensor, experts: Experts, activation: Activation, *, out: torch.Tensor) -> None:
        """All experts see all rows, and those that a row does not take count nothing: how many rows each has is known
        on the device alone, and asking would wait for it."""
        logits = self.empty(len(x), len(experts.up))
        self.multiply(x, experts.router, None, out=logits)
        likely, chosen = torch.softmax(logits.float(), 1).topk(experts.top_k, 1)
        weights = torch.zeros_like(logits, dtype=torch.float32).scatter_(1, chosen, likely)
        total = torch.zeros_like(x, dtype=torch.float32) + experts.bias
        for number, (up, down) in enumerate(zip(experts.up, experts.down, strict=True)):
            inner, made = self.empty(len(x), up.weight.out_features), self.empty(*x.shape)
            self.multiply(x, up, None, activation=activation, out=inner)
            self.multiply(inner, down, None, out=made)
            total += made * weights[:, number, None]
        out.copy_(total)

    def pool_mean(self, hidden: torch.Tensor, cu_seqlens: np.ndarray) -> torch.Tensor:
        return pool_mean(hidden, self.place(cu_seqlens))

    def pool_max(self, hidden: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
        # unsafe: else torch looks at the lengths on the host, which waits for the device and breaks a capture
        how = {"lengths": lengths, "axis": 0, "initial": -torch.inf, "unsafe": True}
        return torch.segment_reduce(hidden.float(), "max", **how).masked_fill(lengths[:, None] == 0, 0)

    def side_by_side(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([part.float() for part in parts], dim=1)

    def floats(self, values: torch.Tensor) -> torch.Tensor:
        return values.float()

    def pool_logits(
        self,
        x: torch.Tensor,
        product: Product,
        cu_seqlens: torch.Tensor,
        *,
        pooling: LogitPooling,
        saturation: Saturation,
    ) -> torch.Tensor:
        layer: DenseLinear = product.weight
        tokens, offsets = x.to(self._type), self.place(cu_seqlens)
        return pool_logits(tokens, layer.weight, offsets, layer.bias, pooling=pooling, saturation=saturation)

    def span_mean(self, hidden: torch.Tensor, spans: np.ndarray) -> torch.Tensor:
        return span_mean(hidden, self.place(spans))

    def copied(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.clone(memory_format=torch.contiguous_format)

    def unit_length(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vectors.float(), dim=1, eps=SMALLEST_NORM)


def _to_rotate(q: torch.Tensor, k: torch.Tensor) -> list[torch.Tensor]:
    """Both, or one tensor of both where k's heads lie behind q's, as in a fused projection."""
    total, heads, head_dim = q.shape
    if q.stride() == k.stride() and k.data_ptr() - q.data_ptr() == heads * q.stride(1) * q.element_size():
        return [q.as_strided((total, heads + k.shape[1], head_dim), q.stride())]
    return [q, k]


def _arrays(record: PackedBatch | Selection) -> dict[str, np.ndarray]:
    """What of a record belongs on the device: all its arrays but the rows' places in the caller's order."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "indices"}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _all_arrays(batch: PackedBatch, selection: Selection) -> list[np.ndarray]:
    return [*_arrays(batch).values(), *_arrays(selection).values()]
