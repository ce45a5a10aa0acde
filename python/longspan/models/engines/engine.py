"""What the forward pass computes with: where weights and activations lie, and the kernels that run on them.

`OpsEngine` calls the public ops, which check every array and choose a backend for each call; `CpuEngine` and
`TorchEngine`, in files of their own, are the same without that. An engine's tensors are its own affair: NumPy arrays
here, torch tensors in `torch_engine.py`, which the encoder takes for NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, TypeAlias, TypeVar

import numpy as np

from longspan import _core
from longspan._core import PackedLinear, PackedLora
from longspan.models.engines.routing import choose_experts
from longspan.models.engines.row_steps import Step
from longspan.models.engines.row_work import RowWork, StepByStep
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import AttentionOptions, EncoderWeights, Experts, Norm, Product, TableAdapter
from longspan.models.spec import ModelSpec, NormKind
from longspan.ops import attention_varlen, layer_norm, linear, pool_mean, rms_norm, span_mean
from longspan.ops.activations import Activation, Gate
from longspan.ops.linear import ComputeType, pack_linear
from longspan.ops.multi_lora import pack_lora
from longspan.ops.pool_logits import LogitPooling, Saturation, pool_logits
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection
from longspan.vectors.unit_length import unit_length

MIXED_AT_ONCE: Final = 256  # rows of `add_mixed` that stay in a core's cache

Batch = TypeVar("Batch", bound=PackedBatch)
Fetch: TypeAlias = Callable[[], np.ndarray]  # waits for a result; an array of the host, f32, that nobody else writes


class Pass(Protocol):
    """What is computed of a batch."""

    @property
    def key(self) -> Hashable:
        """Passes of equal keys compute the same of the same arrays. It keeps alive what the pass reads beside them."""

    @property
    def weights(self) -> EncoderWeights:
        """The encoder's."""

    def with_weights(self, weights: EncoderWeights) -> Pass:
        """The same pass with other weights of its encoder, which then stay what they are."""

    def run(self, batch: PackedBatch, selection: Selection, workspace: Workspace) -> np.ndarray:
        """(num_results, dim) in new memory; all arrays lie where the engine computes. It waits for nothing."""


class OpsEngine:
    """Computes by the public ops, on NumPy arrays."""

    reads_table_bits = False  # whether tables of `embed` may be the bits of bfloat16, as uint16
    has_embed_whole = False  # whether `embed_whole` can stand for `embed`, `adapt_lookup` and the norm behind them

    # Tokens of a batch where the caller names no number: enough rows for the products to run at their full rate; with
    # more, the activations only leave the cache.
    batch_tokens = 2048
    computes_on_host = True  # so that arrays of a batch can be looked at while it is computed
    batches_ahead = 0  # that may be under way on a device while the host prepares the next

    def __init__(self, dtype: ComputeType = "float32") -> None:
        self.dtype: str = dtype
        self._compute_type: Final = dtype
        self.attention_dtype: Final = dtype

    def describe(self, weights: EncoderWeights) -> str:
        """Which kernels run: the instruction set is that of the layers' products."""
        isa = weights.layers[0].qkv.weight.isa if weights.layers else _core.isa()
        return f"cpu kernels ({isa}), {self.dtype}"

    def pack(
        self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None] | None = None, gate: Gate | None = None
    ) -> PackedLinear:
        """The weights of one product as `multiply` reads them."""
        return pack_linear(weights, biases, gate=gate, dtype=self._compute_type)

    def pack_exactly(self, weight: np.ndarray, bias: np.ndarray | None) -> PackedLinear:
        """As `pack`, in float32 where the engine can: a head's product meets one row a text, and costs nothing."""
        return pack_linear([weight], [bias], dtype="float32")

    def pack_lora(self, lora_a: np.ndarray, lora_b: np.ndarray, scaling: float, base: PackedLinear) -> PackedLora:
        """The adapters of one product as `multiply` reads them."""
        return pack_lora(lora_a, lora_b, scaling, base)

    def table_adapters(self, rows: np.ndarray, expand: np.ndarray, token_type: np.ndarray) -> tuple[TableAdapter, ...]:
        """The adapters of the word embeddings of n tasks: rows (n, vocab_size, rank), expand (n, hidden, rank), its
        scaling within, and what a task adds to every token, (n, hidden)."""
        parts = zip(rows, expand, token_type, strict=True)
        return tuple(TableAdapter(own, pack_linear([matrix], [added])) for own, matrix, added in parts)

    def table(self, values: np.ndarray) -> np.ndarray:
        """An embedding table, which may stay in its file."""
        return values

    def vector(self, values: np.ndarray) -> np.ndarray:
        """A small tensor of weights, out of its file."""
        return np.array(values, np.float32)

    def place(self, values: np.ndarray) -> np.ndarray:
        """An array of the host, where the engine computes: an index, a table of positions."""
        return values

    def planned(self, batch: PackedBatch, spec: ModelSpec) -> PackedBatch:
        """A batch of the host with what the engine wants to know of this model's attention."""
        return batch

    def take(self, workspace: Workspace, name: str, rows: int, columns: int) -> np.ndarray:
        """Memory for activations that products read."""
        return workspace.take(name, rows, columns)

    def place_batch(self, batch: Batch) -> Batch:
        """A batch of the host with its arrays where the engine computes."""
        return batch

    def start(self, work: Pass, batch: PackedBatch, selection: Selection, workspace: Workspace) -> Fetch:
        """Begin `work` on a prepared batch and a selection, both of the host; `workspace` is its own until fetched."""
        result = work.run(batch, selection, workspace)
        return lambda: result

    def computing(self) -> AbstractContextManager[None]:
        """A context for ops outside of `start`, which is in one by itself."""
        return nullcontext()

    def adopt(self, workspace: Workspace) -> None:
        """Called when a call takes a workspace that another one has used, maybe on another stream."""

    def to_host(self, values: np.ndarray) -> np.ndarray:
        """An engine's tensor as a NumPy array, f32."""
        return values

    def empty(self, *shape: int) -> np.ndarray:
        """Memory for activations, with undefined contents."""
        return np.empty(shape, np.float32)

    def embed(self, batch: PackedBatch, weights: EncoderWeights, position_offset: int, *, out: np.ndarray) -> None:
        """out = each token's word embedding + that of its place + the token type's; ids are within the table: the
        tokenizer and `encode_ids` check."""
        out[...] = weights.word_embeddings[batch.ids]
        if weights.position_embeddings is not None:
            out += weights.position_embeddings[batch.positions + position_offset]
        if batch.types is not None:
            out += self._token_types(weights)[batch.types]
        elif weights.token_type is not None:
            out += weights.token_type

    @staticmethod
    def _token_types(weights: EncoderWeights) -> np.ndarray:
        """The table of types of a model whose batches have some."""
        assert weights.token_types is not None
        return weights.token_types

    def put(self, values: np.ndarray, rows: np.ndarray | None, *, out: np.ndarray) -> None:
        """out[rows] = values; all rows for None. Rows are different, (n,) int32."""
        out[slice(None) if rows is None else rows] = values

    def add_rows(self, table: np.ndarray, rows: np.ndarray, *, out: np.ndarray) -> None:
        """out += table[rows], rows (n,) of integers."""
        out += table[rows]

    def add_mixed(self, table: np.ndarray, rows: np.ndarray, weights: np.ndarray, *, out: np.ndarray) -> None:
        """out += sum over k of weights[:, k] * table[rows[:, k]], rows (n, taps) of integers, weights f32."""
        for first in range(0, len(rows), MIXED_AT_ONCE):
            part = slice(first, first + MIXED_AT_ONCE)
            mixed = table[rows[part, 0]] * weights[part, 0, None]
            for tap in range(1, rows.shape[1]):
                mixed += table[rows[part, tap]] * weights[part, tap, None]
            out[part] += mixed

    def adapt_lookup(
        self, adapters: Sequence[TableAdapter], ids: np.ndarray, lora_ids: np.ndarray, x: np.ndarray
    ) -> None:
        """Add to the embeddings x, in place, what each token's adapter says of it."""
        for number, adapter in enumerate(adapters):
            tokens = np.flatnonzero(lora_ids == number)
            if tokens.size:
                x[tokens] += linear(adapter.rows[ids[tokens]], adapter.expand)

    def embeds_whole(self, batch: PackedBatch, spec: ModelSpec) -> bool:
        """Whether it does so for this batch."""
        return False

    def embed_whole(self, batch: PackedBatch, weights: EncoderWeights, spec: ModelSpec, *, out: np.ndarray) -> None:
        """out = the embeddings of a batch's tokens, with their adapters and the norm of embeddings."""
        raise NotImplementedError

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
        """out = activation(x W^T + each row's adapter) + residual; lora_ids as in `PackedBatch`."""
        lora, lora_ids = (None, None) if lora_ids is None or product.lora is None else (product.lora, lora_ids)
        linear(x, product.weight, activation=activation, residual=residual, lora=lora, lora_ids=lora_ids, out=out)

    def take_qkv(self, workspace: Workspace, tokens: int, spec: ModelSpec) -> np.ndarray:
        """Memory for q, k and v of some tokens, side by side, as this model's attention reads them."""
        return workspace.take("qkv", tokens, spec.q_width + 2 * spec.kv_width)

    def row_work(self, steps: Sequence[Step], kind: NormKind, eps: float) -> RowWork:
        """The steps, ready to run; every norm is of this kind."""
        return StepByStep(self, steps, kind, eps)

    def add(self, x: np.ndarray, residual: np.ndarray, *, out: np.ndarray) -> None:
        """out = x + residual."""
        np.add(x, residual, out=out)

    def scale(self, x: np.ndarray, factor: float) -> None:
        """x = x * factor, rounded to float32, in place."""
        np.multiply(x, np.float32(factor), out=x)

    def route(self, x: np.ndarray, experts: Experts, activation: Activation, *, out: np.ndarray) -> None:
        """out = what each row's experts make of x, `ExpertSpec`'s sum. Each expert's rows are gathered and go through
        its products together."""
        logits = self.empty(len(x), len(experts.up))
        self.multiply(x, experts.router, None, out=logits)
        chosen, weights = choose_experts(logits, experts.top_k)
        order = np.argsort(chosen, axis=None, kind="stable")  # places of (row, rank), the experts' behind each other
        gathered, made = x[order // experts.top_k], self.empty(len(order), x.shape[1])
        ends = np.cumsum(np.bincount(chosen.reshape(-1), minlength=len(experts.up)))
        for up, down, end, start in zip(experts.up, experts.down, ends, [0, *ends[:-1]], strict=True):
            if start < end:
                inner = self.empty(end - start, up.weight.out_features)
                self.multiply(gathered[start:end], up, None, activation=activation, out=inner)
                self.multiply(inner, down, None, out=made[start:end])
        flat = np.empty(len(order), np.intp)
        flat[order] = np.arange(len(order))
        places = flat.reshape(chosen.shape)
        out[...] = experts.bias
        for rank in range(experts.top_k):  # the best first: a fixed order of the sum
            out += made[places[:, rank]] * weights[:, rank, None]

    def pool_mean(self, hidden: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        """The mean of each row of a pack, (rows, dim) f32."""
        return np.asarray(pool_mean(hidden, cu_seqlens))

    def pool_logits(
        self, x: np.ndarray, product: Product, cu_seqlens: np.ndarray, *, pooling: LogitPooling, saturation: Saturation
    ) -> np.ndarray:
        """`ops.pool_logits` of an output layer, (rows, out_features) f32 in new memory."""
        return np.asarray(pool_logits(x, product.weight, cu_seqlens, pooling=pooling, saturation=saturation))

    def pool_max(self, hidden: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        """The largest of each value in each row of a pack, (rows, dim) f32; zeros for a row without tokens."""
        largest = np.zeros((len(cu_seqlens) - 1, hidden.shape[1]), np.float32)
        has_one = cu_seqlens[:-1] < cu_seqlens[1:]
        if has_one.any():
            largest[has_one] = np.maximum.reduceat(hidden, cu_seqlens[:-1][has_one], axis=0)
        return largest

    def side_by_side(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The columns of several arrays with as many rows, as one array."""
        return np.concatenate(parts, axis=1)

    def floats(self, values: np.ndarray) -> np.ndarray:
        """Whole numbers as f32."""
        return values.astype(np.float32)

    def span_mean(self, hidden: np.ndarray, spans: np.ndarray) -> np.ndarray:
        """The mean of each span, (n, 2) int32, over the rows of `hidden`: (n, dim) f32."""
        return np.asarray(span_mean(hidden, spans))

    def copied(self, vectors: np.ndarray) -> np.ndarray:
        """The same values in new memory, row behind row."""
        return np.array(vectors, order="C")

    def unit_length(self, vectors: np.ndarray) -> np.ndarray:
        """Each row of (rows, dim) divided by its length; a row of zeros stays."""
        return unit_length(vectors)

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
        """out = norm(x + residual)."""
        if kind == "layer_norm":
            layer_norm(x, norm.weight, norm.bias, eps=eps, residual=residual, out=out)
        else:
            rms_norm(x, norm.weight, eps=eps, residual=residual, out=out)

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
        """`ops.attention_varlen` into `out`. `batch` is the one that q and k are the rows of, if they are: an engine
        may then rotate them in place."""
        dtype = self.attention_dtype
        attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, **options._asdict(), dtype=dtype, out=out)
