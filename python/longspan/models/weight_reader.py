"""Reading an encoder's tensors, each held against the shape that its spec gives it, and packed for the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.adapters import part_shapes
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights, Experts, LayerWeights, Norm, Product, TableAdapter, TaskTokens
from longspan.models.positions import relative_bias_table
from longspan.models.spec import ExpertsMap, LayerMap, LinearMap, ModelSpec, NormMap, WeightMap
from longspan.ops.activations import Gate


class WeightReader:
    """Reads an encoder part by part, each held against its spec."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec, engine: OpsEngine) -> None:
        self._checkpoint = checkpoint
        self._spec = spec
        self._engine = engine

    def encoder(self, names: WeightMap) -> EncoderWeights:
        """All that `names` lists but towers. Raises: CheckpointError, as `load_weights`."""
        spec = self._spec
        hidden = spec.hidden_size
        token_types = position_embeddings = bias_table = None
        if names.token_type_embeddings is not None:
            token_types = self._tensor(names.token_type_embeddings, (spec.token_types, hidden))
        if names.position_embeddings is not None and spec.position_offset is not None:
            rows = (spec.max_tokens + spec.position_offset, hidden)
            position_embeddings = self._places(names.position_embeddings, rows)
        if names.relative_bias is not None and spec.relative_bias is not None:
            buckets = self._tensor(names.relative_bias, (spec.relative_bias.num_buckets, spec.num_heads))
            bias_table = relative_bias_table(buckets, spec.relative_bias)
        return EncoderWeights(
            word_embeddings=self._words(names),
            position_embeddings=position_embeddings,
            token_type=None if token_types is None else self._engine.vector(token_types[0]),
            token_types=None if token_types is None else self._engine.vector(token_types),
            relative_bias=None if bias_table is None else self._engine.place(bias_table),
            embedding_norm=self._norm(names.embedding_norm, hidden),
            layers=tuple(self._layer(layer) for layer in names.layers),
            final_norm=self._norm(names.final_norm, hidden),
            tasks=() if names.peft else spec.tasks.names,
            word_adapters=self._word_adapters(names),
            task_tokens=self._task_tokens(names.task_tokens) if names.task_tokens else None,
        )

    def _task_tokens(self, names: Sequence[str]) -> TaskTokens:
        """Row i of each tensor belongs to the i-th of the spec's tokens, which are in no order."""
        ids = np.array(self._spec.task_tokens, np.int32)
        order = np.argsort(ids)
        rows = [self._tensor(name, (len(ids), self._spec.hidden_size)) for name in names]
        return TaskTokens(ids[order], np.stack(rows)[:, order])

    def _places(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """The table of learned places."""
        return self._table(name, shape)

    def _words(self, names: WeightMap) -> np.ndarray:
        """The table of words, without rows where there is none; in its file where a token's row is as it lies there."""
        spec, name = self._spec, names.word_embeddings
        shape = (spec.vocab_size if spec.static is None else spec.static.num_rows, spec.hidden_size)
        if not name:
            return self._engine.empty(0, shape[1])
        if spec.static is None or (self._checkpoint.is_float(name) and not (names.word_mapping or names.word_weights)):
            return self._table(name, shape)
        self._check_shape(name, shape)
        # Integers have no scale: only a vector's direction matters, and they are exact in float32.
        rows = self._checkpoint.tensors.file(name).read(name).astype(np.float32)
        self._checkpoint.require_finite(name, rows)
        if names.word_mapping is not None:
            rows = rows[self._mapping(names.word_mapping, len(rows))]
        if names.word_weights is not None:
            rows = rows * self._tensor(names.word_weights, (spec.vocab_size,))[:, None]
        return self._engine.table(rows)

    def _mapping(self, name: str, num_rows: int) -> np.ndarray:
        self._check_shape(name, (self._spec.vocab_size,))
        mapping = self._checkpoint.tensors.file(name).read(name)
        if mapping.dtype.kind not in "iu" or (len(mapping) and not 0 <= mapping.min() <= mapping.max() < num_rows):
            raise CheckpointError(
                f"{self._checkpoint.folder}: tensor {name} must hold rows from 0 to {num_rows - 1} as integers"
            )
        return mapping

    def _word_adapters(self, names: WeightMap) -> Sequence[TableAdapter]:
        spec, word = self._spec, names.word_lora
        if word is None:
            return ()
        n, hidden = len(spec.tasks.names), spec.hidden_size
        rows = self._tensor(word.a, (n, spec.vocab_size, word.rank))
        expand = self._tensor(word.b, (n, word.rank, hidden)) * np.float32(word.scaling)
        token_type = np.zeros((n, hidden), np.float32)
        if (lora := names.token_type_lora) is not None:
            first_rows = self._tensor(lora.a, (n, spec.token_types, lora.rank))[:, 0]
            factors = self._tensor(lora.b, (n, lora.rank, hidden)).astype(np.float64)
            token_type = (lora.scaling * np.einsum("nr,nrh->nh", first_rows, factors)).astype(np.float32)
        return self._engine.table_adapters(rows, np.ascontiguousarray(expand.transpose(0, 2, 1)), token_type)

    def _layer(self, names: LayerMap) -> LayerWeights:
        spec = self._spec
        hidden = spec.hidden_size
        q_normed, k_normed = spec.head_dim, spec.head_dim
        if spec.qk_norm == "width":
            q_normed, k_normed = spec.q_width, spec.kv_width
        return LayerWeights(
            qkv=self._product(names.qkv, "qkv"),
            attention_out=self._product(names.attention_out, "attention_out"),
            attention_norm=self._norm(names.attention_norm, hidden),
            up=None if names.up is None else self._product(names.up, "up", spec.gate),
            down=None if names.down is None else self._product(names.down, "down"),
            experts=None if names.experts is None else self._experts(names.experts),
            attention_post_norm=self._norm(names.attention_post_norm, hidden),
            mlp_post_norm=self._norm(names.mlp_post_norm, hidden),
            mlp_norm=self._required_norm(names.mlp_norm, hidden),
            q_norm=self._norm(names.q_norm, q_normed),
            k_norm=self._norm(names.k_norm, k_normed),
            residual_norm=self._norm(names.residual_norm, hidden),
            context_norm=self._norm(names.context_norm, spec.q_width),
            inner_norm=self._norm(names.inner_norm, spec.intermediate_size),
        )

    def _table(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """An embedding table in the file's dtype; of bfloat16 its bits, if the engine reads them."""
        self._check_shape(name, shape)
        tensors = self._checkpoint.tensors
        dtype = tensors.dtype(name)
        if dtype == "BF16" and self._engine.reads_table_bits:
            table: np.ndarray = self._checkpoint.bits(name)
        else:
            table = tensors.file(name).read(name) if dtype in ("F32", "F16") else self._checkpoint.read(name)
        self._checkpoint.require_finite(name, table)
        tensors.file(name).release(name)  # a view reads the rows again that texts touch
        return self._engine.table(table)

    def _tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self._check_shape(name, shape)
        tensor = self._checkpoint.read(name)
        self._checkpoint.require_finite(name, tensor)
        return tensor

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        got = self._checkpoint.shape(name)
        if got != shape:
            raise CheckpointError(f"{self._checkpoint.folder}: tensor {name} must be {shape} by the config, got {got}")

    def _norm(self, names: NormMap | None, dim: int) -> Norm | None:
        return None if names is None else self._required_norm(names, dim)

    def _required_norm(self, names: NormMap, dim: int) -> Norm:
        bias = None if names.bias is None else self._engine.vector(self._tensor(names.bias, (dim,)))
        weight = self._tensor(names.weight, (dim,))
        return Norm(self._engine.vector(weight + np.float32(1) if names.adds_one else weight), bias)

    def _experts(self, names: ExpertsMap) -> Experts:
        spec, engine = self._spec, self._engine
        assert spec.experts is not None
        number, inner, hidden = spec.experts.num_experts, spec.intermediate_size, spec.hidden_size
        router = engine.pack_exactly(self._tensor(names.router, (number, hidden)), None)
        up = self._tensor(names.up, (number * inner, hidden)).reshape(number, inner, hidden)
        down = self._tensor(names.down, (number * inner, hidden)).reshape(number, inner, hidden)
        return Experts(
            Product(router),
            tuple(Product(engine.pack([own])) for own in up),
            tuple(Product(engine.pack([np.ascontiguousarray(own.T)])) for own in down),
            engine.vector(self._tensor(names.bias, (hidden,))),
            spec.experts.top_k,
        )

    def _product(self, names: LinearMap, field: str, gate: Gate | None = None) -> Product:
        """The parts apart, or all of them in one tensor, and the adapters that are stacked in the same file."""
        rows, in_features = part_shapes(self._spec, field, len(names.weights))
        weights = [self._tensor(name, (size, in_features)) for name, size in zip(names.weights, rows, strict=True)]
        biases = [
            None if name is None else self._tensor(name, (size,))
            for name, size in zip(names.biases or (None,) * len(rows), rows, strict=True)
        ]
        weight = self._engine.pack(weights, biases, gate)
        if names.lora is None:
            return Product(weight)
        lora, n = names.lora, len(self._spec.tasks.names)
        lora_a = self._tensor(lora.a, (n, lora.rank, in_features))
        lora_b = self._tensor(lora.b, (n, sum(rows), lora.rank))
        return Product(weight, self._engine.pack_lora(lora_a, lora_b, lora.scaling, weight))
