"""A checkpoint's tensors as the encoder wants them: every one accounted for, checked, and packed once."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.adapters import add_to_product, check_adapter, part_shapes
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights, Experts, LayerWeights, Merger, Norm, Product, TableAdapter
from longspan.models.peft import Adapter, read_peft
from longspan.models.positions import relative_bias_table
from longspan.models.spec import (
    ExpertsMap,
    LayerMap,
    LinearMap,
    MergerMap,
    ModelSpec,
    NormMap,
    PeftSource,
    WeightMap,
)
from longspan.ops.activations import Gate


def load_weights(
    checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap, engine: OpsEngine, *, beside: Collection[str] = ()
) -> EncoderWeights:
    """Read every tensor that `names` lists, products packed for `engine`; adapters in files of their own come in with
    `add_adapters`. Tensors that are plainly not the encoder's are left out, with one warning that names them.

    Args:
        beside: tensors that the caller reads itself, such as a reranker's head.
    Raises: CheckpointError, naming the tensor, if one is missing, looks like the encoder's and is not listed, has
        another shape than `spec` says, or holds NaN or infinity.
    """
    _account_for_all(checkpoint, names, beside)
    return _Reader(checkpoint, spec, engine).encoder(names)


def load_tower(checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap, engine: OpsEngine) -> EncoderWeights:
    """The weights of `names.tower`, all of which `load_weights` of `names` has found to be there.

    Raises: CheckpointError, as `load_weights`.
    """
    assert spec.vision is not None and names.tower is not None
    return _Reader(checkpoint, spec.vision.tower, engine).encoder(names.tower)


def read_adapters(names: WeightMap) -> list[Adapter]:
    """The checkpoint's adapters in files of their own, one a task, in order.

    Raises: CheckpointError, a folder or a tensor is missing, damaged, or holds what is not supported.
    """
    return [_read_source(source, names.peft) for source in names.peft]


def add_adapters(
    weights: EncoderWeights, spec: ModelSpec, names: WeightMap, adapters: Sequence[Adapter], engine: OpsEngine
) -> EncoderWeights:
    """`weights`, which stay as they are, with more tasks behind those that they have.

    Raises: CheckpointError, an adapter is of another model.
    """
    if not adapters:
        return weights
    for adapter in adapters:
        check_adapter(adapter, spec, names)
    before = len(weights.tasks)

    def adapted(product: Product, parts: LinearMap, field: str) -> Product:
        """With the part that the adapters have here."""
        rows, _ = part_shapes(spec, field, len(parts.weights))
        return add_to_product(product, parts, rows, before, adapters, engine)

    layers = tuple(
        replace(
            layer,
            qkv=adapted(layer.qkv, parts.qkv, "qkv"),
            attention_out=adapted(layer.attention_out, parts.attention_out, "attention_out"),
            up=None if layer.up is None or parts.up is None else adapted(layer.up, parts.up, "up"),
            down=None if layer.down is None or parts.down is None else adapted(layer.down, parts.down, "down"),
        )
        for layer, parts in zip(weights.layers, names.layers, strict=True)
    )
    return replace(weights, layers=layers, tasks=(*weights.tasks, *(adapter.name for adapter in adapters)))


def _read_source(source: PeftSource, sources: Sequence[PeftSource]) -> Adapter:
    shared = [other.task for other in sources if source.shares_file and other.folder == source.folder]
    try:
        return read_peft(source.folder, source.task, tasks_in_file=shared)
    except FileNotFoundError:
        raise CheckpointError(f"{source.folder} is missing: it holds the adapter of the task {source.task!r}") from None


def _account_for_all(checkpoint: Checkpoint, names: WeightMap, beside: Collection[str]) -> None:
    present, wanted = set(checkpoint.tensor_names), set(names.names)
    if missing := sorted(wanted - present):
        raise CheckpointError(f"{checkpoint.folder}: {_listed(missing)} missing from the weights")
    unlisted = sorted(
        name
        for name in present - wanted - set(beside)
        if not any(fnmatchcase(name, pattern) for pattern in names.unused)
    )
    of_tower = set() if names.tower is None else set(names.tower.names)
    encoders = [_EncoderNames(own) for own in (wanted - of_tower, of_tower) if own]
    misplaced = [
        name for name in unlisted if checkpoint.is_float(name) and any(encoder.claim(name) for encoder in encoders)
    ]
    if misplaced:
        raise CheckpointError(f"{checkpoint.folder}: {_listed(misplaced)} not part of this model as its config says")
    if unlisted:
        warnings.warn(
            f"{checkpoint.folder}: {_listed(unlisted)} not needed here and left out", UserWarning, stacklevel=2
        )


class _EncoderNames:
    """Which names look like an encoder's, judged by those of its tensors."""

    def __init__(self, wanted: Collection[str]) -> None:
        first, last = min(wanted), max(wanted)
        length = next((place for place, pair in enumerate(zip(first, last)) if pair[0] != pair[1]), len(first))
        self._prefix = first[: first.rfind(".", 0, length) + 1]
        own = {name.removeprefix(self._prefix) for name in wanted}
        self._rooms = {name.partition(".")[0] for name in own}
        self._in_layers = {name for name in own if any(part.isdigit() for part in name.split("."))}

    def claim(self, name: str) -> bool:
        """Whether it lies in a room of the encoder's, such as `encoder.`, or is a layer's tensor behind a prefix."""
        own = name.removeprefix(self._prefix)
        if name.startswith(self._prefix) and own.partition(".")[0] in self._rooms:
            return True
        parts = name.split(".")
        return any(".".join(parts[place:]) in self._in_layers for place in range(1, len(parts)))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    if len(names) == 1:
        return f"tensor {shown} is"
    return f"tensors {shown} are" if len(names) <= 3 else f"tensors {shown} and {len(names) - 3} more are"


class _Reader:
    """Reads single parts, each held against the spec."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec, engine: OpsEngine) -> None:
        self._checkpoint = checkpoint
        self._spec = spec
        self._engine = engine

    def encoder(self, names: WeightMap) -> EncoderWeights:
        spec = self._spec
        hidden = spec.hidden_size
        token_types = position_embeddings = bias_table = None
        if names.token_type_embeddings is not None:
            token_types = self._tensor(names.token_type_embeddings, (spec.token_types, hidden))
        if names.position_embeddings is not None and spec.position_offset is not None:
            rows = (spec.max_tokens + spec.position_offset, hidden)
            table = self._table if spec.patches is None else self._unwrapped_table
            position_embeddings = table(names.position_embeddings, rows)
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
            patches=None if names.patches is None else self._patches(names.patches),
            class_token=None if names.class_token is None else self._class_token(names.class_token),
            merger=None if names.merger is None else self._merger(names.merger),
        )

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

    def _patches(self, names: LinearMap) -> Product:
        """The convolution whose step is its width, as a product: one row of weights for all axes of a patch."""
        spec = self._spec
        assert spec.patches is not None
        size, frames = spec.patches.size, spec.patches.frames
        shape = (spec.hidden_size, 3, *((frames,) if frames > 1 else ()), size, size)
        weight = self._tensor(names.weights[0], shape).reshape(spec.hidden_size, -1)
        biases = [None if name is None else self._tensor(name, (spec.hidden_size,)) for name in names.biases]
        return Product(self._engine.pack([weight], biases or None))

    def _unwrapped_table(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """A table that is stored with an axis of one batch before its own."""
        return self._engine.table(self._tensor(name, (1, *shape))[0])

    def _class_token(self, name: str) -> np.ndarray:
        return self._engine.vector(self._tensor(name, (1, 1, self._spec.hidden_size))[0, 0])

    def _merger(self, names: MergerMap) -> Merger:
        spec = self._spec
        assert spec.patches is not None
        joined = spec.hidden_size * spec.patches.cell
        out = self._checkpoint.shape(names.down.weights[0])[:1]
        return Merger(
            self._required_norm(names.norm, spec.hidden_size),
            self._own_product(names.up, (joined, joined)),
            self._own_product(names.down, (*out, joined)),
        )

    def _own_product(self, names: LinearMap, shape: tuple[int, ...]) -> Product:
        """One matrix of (out, in) values, with a bias or without."""
        weight = self._tensor(names.weights[0], shape)
        biases = [None if name is None else self._tensor(name, shape[:1]) for name in names.biases]
        return Product(self._engine.pack([weight], biases or None))

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
        """An embedding table in the file's dtype."""
        self._check_shape(name, shape)
        table = self._checkpoint.tensors.file(name).read(name)
        if table.dtype not in (np.float32, np.float16):
            table = self._checkpoint.read(name)
        self._checkpoint.require_finite(name, table)
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
