"""What an encoder is made of: its weights, loaded (norms, packed products with their adapters, layers, the whole), and
how its attention scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from longspan._core import PackedLinear, PackedLora


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm's scale (dim,) and shift (dim,) or None."""

    weight: np.ndarray
    bias: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product's packed weights and the adapters of all tasks, if any has one here."""

    weight: PackedLinear
    lora: PackedLora | None = None


@dataclass(frozen=True, slots=True)
class TableAdapter:
    """What one task adds to a token's embedding: rows[id] times `expand`, plus its part of the token type's row."""

    rows: np.ndarray  # (vocab_size, rank) f32
    expand: PackedLinear  # (hidden, rank), the scaling within; its bias (hidden,) is the token type's


class AttentionOptions(NamedTuple):  # one is made for every layer of every batch, and a tuple costs least
    """How attention's scores are made of q and k: arguments of `ops.attention_varlen`, which says what they mean."""

    softmax_scale: float
    slopes: np.ndarray | None
    cos: np.ndarray | None
    sin: np.ndarray | None
    interleaved: bool
    bias_table: np.ndarray | None
    causal: bool
    window: tuple[int, int] | None
    rotary_by_key: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Experts:
    """Several MLPs of which each token takes `top_k`; `ExpertSpec` says how."""

    router: Product  # in float32 where the engine can: what it chooses between may lie close
    up: tuple[Product, ...]
    down: tuple[Product, ...]
    bias: np.ndarray  # (hidden,) f32
    top_k: int


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer, its products packed; `LayerMap` says what the parts are."""

    qkv: Product
    attention_out: Product
    attention_norm: Norm | None
    up: Product | None
    down: Product | None
    mlp_norm: Norm
    q_norm: Norm | None
    k_norm: Norm | None
    residual_norm: Norm | None
    experts: Experts | None = None
    attention_post_norm: Norm | None = None
    mlp_post_norm: Norm | None = None
    context_norm: Norm | None = None
    inner_norm: Norm | None = None


@dataclass(frozen=True, slots=True)
class Merger:
    """What makes one token of a cell of patches; `MergerMap` says what the parts are."""

    norm: Norm
    up: Product
    down: Product


@dataclass(frozen=True, slots=True)
class Pooled:
    """What makes tokens of an audio tower's pooled rows; `PooledMap` says what the parts are."""

    norm: Norm
    connectors: tuple[Product, ...]  # with what they share multiplied in


@dataclass(frozen=True, slots=True, eq=False)
class TaskTokens:
    """Tokens whose embeddings are a task's own; on the host."""

    ids: np.ndarray  # (tokens,) int32, rising
    rows: np.ndarray  # (tasks, tokens, hidden) f32, in the order of `ids`; the adapter's number is the task's


@dataclass(frozen=True, slots=True, eq=False)
class EncoderWeights:
    """A whole encoder. Embedding tables stay in the file's dtype, memory-mapped: a text touches few of their rows."""

    word_embeddings: np.ndarray  # (vocab_size, hidden) f32, f16 or bfloat16's bits as uint16; a tower's has no rows
    position_embeddings: np.ndarray | None  # (max_tokens + offset, hidden), the same; of a tower f32
    token_type: np.ndarray | None  # (hidden,) f32: row 0 of the table
    relative_bias: np.ndarray | None  # (num_heads, 2 * max_distance + 1) f32, by distance
    embedding_norm: Norm | None
    layers: tuple[LayerWeights, ...]
    final_norm: Norm | None
    tasks: tuple[str, ...] = ()  # an adapter's number is its place here
    word_adapters: Sequence[TableAdapter] = ()  # of the first tasks; the others adapt no table
    token_types: np.ndarray | None = None  # (token_types, hidden) f32: the table, for batches that have types
    patches: Product | None = None  # of a tower
    class_token: np.ndarray | None = None  # (hidden,) f32
    mergers: tuple[Merger, ...] = ()
    stem: tuple[Product, ...] = ()  # two, of an audio tower
    pooled: Pooled | None = None
    task_tokens: TaskTokens | None = None
