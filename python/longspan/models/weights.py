"""A checkpoint's tensors as the encoder wants them: every one accounted for, checked, and packed once."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from longspan._core import PackedLinear
from longspan.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.spec import LinearMap, ModelSpec, NormMap, WeightMap
from longspan.ops.linear import Gate, pack_linear


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm's scale (dim,) and shift (dim,) or None."""

    weight: np.ndarray
    bias: np.ndarray | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer, its products packed."""

    qkv: PackedLinear
    attention_out: PackedLinear
    attention_norm: Norm
    up: PackedLinear
    down: PackedLinear
    mlp_norm: Norm


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """A whole encoder. Embedding tables stay in the file's dtype, memory-mapped: a text touches few of their rows."""

    word_embeddings: np.ndarray  # (vocab_size, hidden) f32 or f16
    position_embeddings: np.ndarray | None  # (max_tokens + offset, hidden) f32 or f16
    token_type: np.ndarray | None  # (hidden,) f32: row 0 of the table
    embedding_norm: Norm
    layers: tuple[LayerWeights, ...]


def load_weights(checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap) -> EncoderWeights:
    """Read and pack every tensor that `names` lists.

    Raises: CheckpointError, naming the tensor, if one is missing, is not listed, has another shape than `spec` says, or
        holds NaN or infinity.
    """
    _account_for_all(checkpoint, names)
    return _Reader(checkpoint, spec).encoder(names)


def _account_for_all(checkpoint: Checkpoint, names: WeightMap) -> None:
    present, wanted = set(checkpoint.tensor_names), set(names.names)
    if missing := sorted(wanted - present):
        raise CheckpointError(f"{checkpoint.folder}: {_listed(missing)} missing from the weights")
    unexpected = sorted(
        name for name in present - wanted if not any(fnmatchcase(name, pattern) for pattern in names.unused)
    )
    if unexpected:
        raise CheckpointError(f"{checkpoint.folder}: {_listed(unexpected)} not part of this model as its config says")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    if len(names) == 1:
        return f"tensor {shown} is"
    return f"tensors {shown} are" if len(names) <= 3 else f"tensors {shown} and {len(names) - 3} more are"


class _Reader:
    """Reads single parts, each held against the spec."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec) -> None:
        self._checkpoint = checkpoint
        self._spec = spec

    def encoder(self, names: WeightMap) -> EncoderWeights:
        spec = self._spec
        hidden, inner, attended = spec.hidden_size, spec.intermediate_size, spec.num_heads * spec.head_dim
        up = inner if spec.gate is None else 2 * inner
        token_type = None
        if names.token_type_embeddings is not None:
            token_type = self._tensor(names.token_type_embeddings, (spec.token_types, hidden))[0].copy()
        position_embeddings = None
        if names.position_embeddings is not None:
            rows = spec.max_tokens + spec.positions.offset
            position_embeddings = self._table(names.position_embeddings, (rows, hidden))
        return EncoderWeights(
            word_embeddings=self._table(names.word_embeddings, (spec.vocab_size, hidden)),
            position_embeddings=position_embeddings,
            token_type=token_type,
            embedding_norm=self._norm(names.embedding_norm, hidden),
            layers=tuple(
                LayerWeights(
                    qkv=self._linear(layer.qkv, 3 * attended, hidden),
                    attention_out=self._linear(layer.attention_out, hidden, attended),
                    attention_norm=self._norm(layer.attention_norm, hidden),
                    up=self._linear(layer.up, up, hidden, spec.gate),
                    down=self._linear(layer.down, hidden, inner),
                    mlp_norm=self._norm(layer.mlp_norm, hidden),
                )
                for layer in names.layers
            ),
        )

    def _table(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """An embedding table in the file's dtype."""
        self._check_shape(name, shape)
        table = self._checkpoint.tensors.file(name).read(name)
        if table.dtype not in (np.float32, np.float16):
            table = self._checkpoint.read(name)
        self._checkpoint.require_finite(name, table)
        return table

    def _tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self._check_shape(name, shape)
        tensor = self._checkpoint.read(name)
        self._checkpoint.require_finite(name, tensor)
        return tensor

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        got = self._checkpoint.shape(name)
        if got != shape:
            raise CheckpointError(f"{self._checkpoint.folder}: tensor {name} must be {shape} by the config, got {got}")

    def _norm(self, names: NormMap, dim: int) -> Norm:
        bias = None if names.bias is None else np.array(self._tensor(names.bias, (dim,)))
        return Norm(np.array(self._tensor(names.weight, (dim,))), bias)

    def _linear(self, names: LinearMap, out_features: int, in_features: int, gate: Gate | None = None) -> PackedLinear:
        """Stacked weights share the outputs equally, which holds for every fused product of the families so far."""
        rows = out_features // len(names.weights)
        weights = [self._tensor(name, (rows, in_features)) for name in names.weights]
        biases = [self._tensor(name, (rows,)) for name in names.biases]
        return pack_linear(weights, biases or None, gate=gate)
