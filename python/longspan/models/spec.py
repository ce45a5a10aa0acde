"""What a model is, as data: the shape of its encoder, and which tensor of a checkpoint plays which part.

A family file turns a checkpoint's config.json and tensor names into a `ModelSpec` and a `WeightMap`; it holds no maths.
`weights.py` reads what the map names and checks it against the spec; `encoder.py` runs any spec.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from longspan.ops.linear import Activation, Gate

NormKind = Literal["layer_norm", "rms_norm"]
PoolingMode = Literal["mean", "cls", "lasttoken"]


@dataclass(frozen=True, slots=True)
class AbsolutePositions:
    """A learned table, (max_tokens + offset, hidden): the token at place t of its text gets row t + offset."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """An encoder's shape. Sizes are in values, lengths in tokens (special tokens included)."""

    family: str  # the family file that made it, as `longspan info` prints it
    hidden_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    intermediate_size: int  # width of the MLP after its activation and gate
    vocab_size: int
    token_types: int  # rows of the token type table, 0 if there is none; row 0 is added to every token
    max_tokens: int  # the longest text that the positions allow
    positions: AbsolutePositions
    norm: NormKind
    norm_eps: float
    activation: Activation
    gate: Gate | None  # None: up, activation, down; "first" or "second": which half of a gated MLP is activated
    default_pooling: PoolingMode  # where the checkpoint's own files name none
    # A place for vision towers (jina-clip-v2, jina-embeddings-v4): their spec joins here when they are supported.

    @property
    def softmax_scale(self) -> float:
        """What q k^T is multiplied by."""
        return 1 / math.sqrt(self.head_dim)


@dataclass(frozen=True, slots=True)
class LinearMap:
    """A product's tensors: weights (out, in) stacked by rows in this order, and a bias each or none at all."""

    weights: tuple[str, ...]
    biases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor that it reads."""
        return self.weights + self.biases


@dataclass(frozen=True, slots=True)
class NormMap:
    """A norm's scale and, where it has one, its shift."""

    weight: str
    bias: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor that it reads."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class LayerMap:
    """One layer's tensors."""

    qkv: LinearMap  # three matrices, or one that holds all three
    attention_out: LinearMap
    attention_norm: NormMap
    up: LinearMap
    down: LinearMap
    mlp_norm: NormMap

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that the layer reads."""
        for part in (self.qkv, self.attention_out, self.attention_norm, self.up, self.down, self.mlp_norm):
            yield from part.names


@dataclass(frozen=True, slots=True)
class WeightMap:
    """Which tensor of the checkpoint plays which part, and which may be there unused."""

    word_embeddings: str
    position_embeddings: str | None
    token_type_embeddings: str | None
    embedding_norm: NormMap
    layers: tuple[LayerMap, ...]
    unused: tuple[str, ...]  # glob patterns, such as "pooler.*"

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that the model reads."""
        for name in (self.word_embeddings, self.position_embeddings, self.token_type_embeddings):
            if name is not None:
                yield name
        yield from self.embedding_norm.names
        for layer in self.layers:
            yield from layer.names
