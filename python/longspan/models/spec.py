"""What a model is, as data: the shape of its encoder, and which tensor of a checkpoint plays which part.

A family file turns a checkpoint's config.json and tensor names into a `ModelSpec` and a `WeightMap`; it holds no maths.
`weights.py` reads what the map names and checks it against the spec; `encoder.py` runs any spec.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longspan.models.audio_spec import MelSpec, StemSpec
from longspan.models.sequence_spec import SequenceSpec
from longspan.models.vision_spec import ClipSpec, ImageText, PatchSpec, PixelSpec
from longspan.ops.activations import Activation, Gate

NormKind = Literal["layer_norm", "rms_norm"]
PoolingMode = Literal["mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean"]


@dataclass(frozen=True, slots=True)
class RotaryScaling:
    """How RoPE's frequencies f_i = theta^(-2 i / dim) change for texts longer than those of the first training.

    linear: f_i / factor. ntk: theta * factor in place of theta, then / factor^(2 / dim); of GTE's models.
    dynamic: of a text of n > trained_tokens tokens, theta * (factor n / trained_tokens - factor + 1)^(dim / (dim - 2)).
    yarn: f_i where a full turn is short beside trained_tokens, f_i / factor where it is long, a ramp between the two;
    cos and sin times attention_factor. Source: arXiv:2309.00071, and transformers' code of the same names.
    """

    kind: Literal["linear", "ntk", "dynamic", "yarn"]
    factor: float
    trained_tokens: int = 0
    attention_factor: float = 1.0
    beta_fast: float = 32.0  # turns within trained_tokens above which a frequency stays
    beta_slow: float = 1.0  # and below which it is divided
    truncate: bool = True  # whether the ramp begins and ends at whole places


@dataclass(frozen=True, slots=True)
class Rotary:
    """RoPE on q and k: angle(t, i) = t * theta^(-2 i / dim) at place t of the text, over the first `dim` of a head."""

    theta: float
    dim: int
    interleaved: bool = False  # which values pair: (2 i, 2 i + 1), or (i, i + dim / 2)
    scaling: RotaryScaling | None = None
    # Of tokens with several coordinates (row and column; time, row and column): how many of the dim / 2 angles go by
    # each, in order. Of a token without any, its place in the text is all of them.
    sections: tuple[int, ...] = ()
    has_own_frequencies: bool = False  # each section: theta^(-i / section), i from 0 in each

    @property
    def trained_tokens(self) -> int | None:
        """The longest text whose tables are every text's; a longer one has its own. None: all share one."""
        return self.scaling.trained_tokens if self.scaling is not None and self.scaling.kind == "dynamic" else None


@dataclass(frozen=True, slots=True)
class RelativeBias:
    """T5's bias by distance, one table (num_buckets, num_heads) that all layers share."""

    num_buckets: int
    max_distance: int


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What may differ between the layers of one model."""

    rotary: Rotary | None = None
    window: tuple[int, int] | None = None  # keys (left, right) of the query that it sees; None: all
    is_windowed: bool = False  # attention within an image's windows; see `PatchSpec`


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """An MLP of several, of which each token takes some: p = softmax over all of R x, the `top_k` largest count, and
    y = sum over them of p_e D_e activation(U_e x), plus one bias."""

    num_experts: int
    top_k: int


@dataclass(frozen=True, slots=True)
class StaticSpec:
    """A model that is a table: its rows, and what its tokenizer leaves out."""

    num_rows: int  # of the table, where tokens share some fewer than tokens
    drops_unknown: bool  # the unknown token does not count, after the cut
    cuts_characters: bool  # a text is cut first, to `max_length` tokens of the vocabulary's median length


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """The adapters that a checkpoint comes with, one a task, and how it wants them used."""

    names: tuple[str, ...] = ()  # an adapter's number is its place here
    default: str | None = None  # of a call without a task; None: no adapter, unless `is_required`
    is_required: bool = False  # a call without a task is an error: the bare backbone is nothing that was published
    query: str | None = None  # of `encode_query`; None: as any call without a task
    document: str | None = None
    # (task, prompt): texts of this task take the prompt of this name, whichever other of the model's own is asked for.
    fixed_prompts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """An encoder's shape. Sizes are in values, lengths in tokens (special tokens included)."""

    family: str  # the family that made it, as `longspan info` prints it
    hidden_size: int
    num_heads: int
    head_dim: int
    intermediate_size: int  # width of the MLP after its activation and gate
    vocab_size: int
    max_tokens: int  # the longest text that the positions allow
    layers: tuple[LayerSpec, ...]
    norm: NormKind
    norm_eps: float
    activation: Activation
    num_kv_heads: int | None = None  # None: as num_heads; each serves num_heads / num_kv_heads query heads
    gate: Gate | None = None  # None: up, activation, down; "first" or "second": which half of a gated MLP is activated
    static: StaticSpec | None = None  # of a model without layers
    experts: ExpertSpec | None = None  # of the layers whose map has some
    embedding_scale: float | None = None  # what a token's embedding is multiplied by
    token_types: int = 0  # rows of the token type table, 0 if there is none; row 0 is added to every token
    position_offset: int | None = None  # a learned table: place t of a text adds row t + offset; None: no table
    alibi: bool = False  # score -= slope * distance, in both directions
    relative_bias: RelativeBias | None = None
    softmax_scale: float | None = None  # None: 1 / sqrt(head_dim)
    causal: bool = False
    is_prenorm: bool = False  # x + f(norm(x)) and a norm at the end, instead of norm(x + f(x))
    qk_norm: Literal["width", "head"] | None = None  # norm of q and k: over all heads together, or over each
    has_double_residual: bool = False  # post-norm attention adds its input a second time, with a norm of its own
    default_pooling: PoolingMode = "mean"  # where the checkpoint's own files name none
    default_normalize: bool = False  # where they name no pooling: whether the text's vector has unit length
    end_token: str | None = None  # whose state is a text's vector: a tokenizer that does not add it is warned of
    default_max_tokens: int | None = None  # where they set no limit and `max_tokens` is beyond what it was made for
    tasks: TaskSpec = TaskSpec()
    default_prompts: tuple[tuple[str, str], ...] = ()  # name and text, where the checkpoint's own files name none
    default_prompt_name: str | None = None  # of those
    matryoshka_dims: tuple[int, ...] = ()  # what a vector may be cut to; empty: anything
    patches: PatchSpec | None = None  # of a vision tower, which has no words
    stem: StemSpec | None = None  # of an audio tower, which has none either
    vision: VisionSpec | None = None  # how the model looks at images; None: it does not
    audio: AudioSpec | None = None  # how it listens; None: it does not
    sequence: SequenceSpec | None = None  # where media stand among a text's tokens, of a model that reads them so
    task_tokens: tuple[int, ...] = ()  # ids whose embeddings are each task's own, in order

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return len(self.layers)

    @property
    def kv_heads(self) -> int:
        """Heads of k and of v."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def q_width(self) -> int:
        """Values of q of a token, all heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Values of k, or of v, of a token."""
        return self.kv_heads * self.head_dim

    @property
    def scale(self) -> float:
        """What q k^T is multiplied by."""
        return 1 / math.sqrt(self.head_dim) if self.softmax_scale is None else self.softmax_scale


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """How a model looks at images and, where it has a `clip`, at videos."""

    tower: ModelSpec
    pixels: PixelSpec
    text: ImageText | None = None  # what stands around the tower's features, in models of images beside texts alone
    # What published files say of the pixels; other settings count to the fingerprint. Of models whose settings always
    # do (`SequenceSpec`) there are none.
    usual: tuple[PixelSpec, ...] = ()
    clip: ClipSpec | None = None  # None: it reads no videos


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """How a model listens."""

    tower: ModelSpec
    mel: MelSpec


@dataclass(frozen=True, slots=True)
class LoraMap:
    """The adapters of one matrix, all tasks stacked: of a product A (n, rank, in), B (n, out, rank); of a table
    A (n, rows, rank), B (n, rank, dim)."""

    a: str
    b: str
    rank: int
    scaling: float

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that it reads."""
        yield self.a
        yield self.b


@dataclass(frozen=True, slots=True)
class PeftSource:
    """One task's adapter in a folder as the PEFT library writes it."""

    task: str
    folder: Path
    shares_file: bool = False  # with the other tasks: then tensor names hold the task


@dataclass(frozen=True, slots=True)
class LinearMap:
    """A product's tensors: weights (out, in) stacked by rows in this order, and a bias or None for each."""

    weights: tuple[str, ...]
    biases: tuple[str | None, ...] = ()  # empty: none at all
    lora: LoraMap | None = None  # of one matrix alone

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that it reads."""
        yield from self.weights
        yield from (name for name in self.biases if name is not None)
        if self.lora is not None:
            yield from self.lora.names


@dataclass(frozen=True, slots=True)
class NormMap:
    """A norm's scale and, where it has one, its shift."""

    weight: str
    bias: str | None = None
    adds_one: bool = False  # the scale is 1 + weight

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that it reads."""
        yield self.weight
        if self.bias is not None:
            yield self.bias


@dataclass(frozen=True, slots=True)
class ExpertsMap:
    """The tensors of several MLPs: the router (E, hidden), what goes up and what comes down, both (E * inner, hidden),
    an expert's rows behind those of the one before, and the bias of the sum (hidden,)."""

    router: str
    up: str
    down: str
    bias: str

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that it reads."""
        yield from (self.router, self.up, self.down, self.bias)


@dataclass(frozen=True, slots=True)
class LayerMap:
    """One layer's tensors."""

    qkv: LinearMap  # q, k and v apart, or one matrix that holds all three in this order
    attention_out: LinearMap
    attention_norm: NormMap | None  # None: a pre-norm layer that starts without one
    up: LinearMap | None  # of a gated MLP both halves, the first one first; None: the layer has experts
    down: LinearMap | None
    mlp_norm: NormMap
    experts: ExpertsMap | None = None
    attention_post_norm: NormMap | None = None  # of what a pre-norm layer's attention adds
    mlp_post_norm: NormMap | None = None  # and of what its MLP adds
    q_norm: NormMap | None = None
    k_norm: NormMap | None = None
    residual_norm: NormMap | None = None  # of the double residual
    context_norm: NormMap | None = None  # of what attention found, all heads together, before `attention_out`
    inner_norm: NormMap | None = None  # within the MLP, before `down`

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that the layer reads."""
        parts = (self.qkv, self.attention_out, self.attention_norm, self.up, self.down, self.mlp_norm)
        norms = (self.q_norm, self.k_norm, self.residual_norm, self.attention_post_norm, self.mlp_post_norm)
        for part in (*parts, self.experts, *norms, self.context_norm, self.inner_norm):
            if part is not None:
                yield from part.names


@dataclass(frozen=True, slots=True)
class MergerMap:
    """What makes one token of a cell of patches: each normed, joined side by side, through two products."""

    norm: NormMap
    up: LinearMap
    down: LinearMap

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that it reads."""
        for part in (self.norm, self.up, self.down):
            yield from part.names


@dataclass(frozen=True, slots=True)
class PooledMap:
    """What makes tokens of an audio tower's pooled rows: a norm, then a task's product, through one that all tasks
    share where there is one."""

    norm: NormMap
    connectors: tuple[LinearMap, ...]  # one a task
    shared: LinearMap | None = None

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that it reads."""
        for part in (self.norm, self.shared, *self.connectors):
            if part is not None:
                yield from part.names


@dataclass(frozen=True, slots=True)
class WeightMap:
    """Which tensor of the checkpoint plays which part, and which may be there unused."""

    word_embeddings: str  # "" of a tower, which has `patches` or a `stem`
    layers: tuple[LayerMap, ...]
    position_embeddings: str | None = None
    token_type_embeddings: str | None = None
    relative_bias: str | None = None
    embedding_norm: NormMap | None = None
    final_norm: NormMap | None = None
    word_mapping: str | None = None  # (vocab_size,) the row of each token; None: its own number
    word_weights: str | None = None  # (vocab_size,) what a token's row is multiplied by
    word_lora: LoraMap | None = None
    token_type_lora: LoraMap | None = None
    peft: tuple[PeftSource, ...] = ()  # adapters in files of their own
    patches: LinearMap | None = None  # of numbers of a patch; stored with an axis for each of its axes
    class_token: str | None = None
    mergers: tuple[MergerMap, ...] = ()  # one a task, or one for all
    stem: tuple[LinearMap, ...] = ()  # of two convolutions over three neighbours
    pooled: PooledMap | None = None
    tower: WeightMap | None = None  # of `VisionSpec.tower`
    audio: WeightMap | None = None  # of `AudioSpec.tower`
    task_tokens: tuple[str, ...] = ()  # for each task the embeddings of `ModelSpec.task_tokens`, a row each
    unused: tuple[str, ...] = ()  # glob patterns, such as "pooler.*"

    @property
    def names(self) -> Iterator[str]:
        """Every tensor that the model reads."""
        tables = (self.word_embeddings, self.position_embeddings, self.token_type_embeddings, self.relative_bias)
        words = (self.word_mapping, self.word_weights)
        yield from (name for name in (*tables, *words, self.class_token, *self.task_tokens) if name)
        parts = (self.embedding_norm, self.final_norm, self.word_lora, self.token_type_lora, self.patches)
        for part in (*parts, *self.mergers, *self.stem, self.pooled, self.tower, self.audio, *self.layers):
            if part is not None:
                yield from part.names
