"""T5 encoders with mean pooling: jina-embedding-s-en-v1, -b and -l, sentence-t5; and of v1.1, whose MLP is gated.

Pre-norm layers with RMS norms, no bias anywhere, no scaling of the scores, and one table of biases by distance that
the first layer stores for all. Only the encoder half is read. Source: arXiv:1910.10683, arXiv:2002.05202.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    Family,
    linear_map,
    read_activation,
    read_choice,
    read_num_layers,
    read_positive,
    read_size,
    require,
)
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, NormMap, RelativeBias, WeightMap
from longspan.ops.activations import Activation

# 'feed_forward_proj': its activation, and whether it is gated. transformers takes "gated-gelu" for the tanh form.
FEED_FORWARDS: Final[dict[str, tuple[Activation, bool]]] = {
    "relu": ("relu", False),
    "gated-gelu": ("gelu_tanh", True),
    "gated-silu": ("silu", True),
}
DENSE_NAMES: Final[dict[Activation, str]] = {"relu": "relu", "gelu_tanh": "gelu_new", "silu": "silu"}
MAX_TOKENS: Final = 1 << 20  # buckets by distance fit any length; a bound all the same, for sizes that stay sane
TRAINED_TOKENS: Final = 512
MAX_DISTANCE: Final = 1 << 16  # the bias is spread over twice as many distances
# The decoder of a whole T5, its head, and the copies that tying writes.
UNUSED: Final = ("decoder.*", "lm_head.weight", "encoder.embed_tokens.weight", "shared.weight")


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "t5"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config = checkpoint.config
    kind = read_choice(config, "feed_forward_proj", "relu", {name: name for name in FEED_FORWARDS})
    activation, is_gated = FEED_FORWARDS[kind]
    require(config, f"T5 with {kind}", is_gated_act=is_gated)
    if read_activation(config, "dense_act_fn", DENSE_NAMES[activation]) != activation:
        raise CheckpointError(
            f"{config.source}: 'dense_act_fn' is {config.get('dense_act_fn')!r}, but 'feed_forward_proj' {kind!r}"
        )
    spec = ModelSpec(
        family="T5",
        hidden_size=read_size(config, "d_model"),
        layers=(LayerSpec(),) * read_num_layers(config, "num_layers", checkpoint.tensor_names),
        num_heads=read_size(config, "num_heads"),
        head_dim=read_size(config, "d_kv"),
        intermediate_size=read_size(config, "d_ff"),
        vocab_size=read_size(config, "vocab_size"),
        max_tokens=MAX_TOKENS,
        default_max_tokens=read_size(config, "n_positions", TRAINED_TOKENS),
        norm="rms_norm",
        norm_eps=read_positive(config, "layer_norm_epsilon", 1e-6),
        activation=activation,
        gate="first" if is_gated else None,
        relative_bias=_relative_bias(config),
        softmax_scale=1.0,
        is_prenorm=True,
        default_normalize=True,
    )
    return spec, _weight_map(checkpoint.tensor_names, spec)


def _relative_bias(config: JsonObject) -> RelativeBias:
    buckets = config.get_int("relative_attention_num_buckets", 32)
    distance = config.get_int("relative_attention_max_distance", 128)
    if buckets < 4 or buckets % 4:
        raise CheckpointError(
            f"{config.source}: 'relative_attention_num_buckets' must be a multiple of 4, 4 or more, got {buckets}"
        )
    if not buckets // 4 < distance <= MAX_DISTANCE:
        raise CheckpointError(
            f"{config.source}: 'relative_attention_max_distance' must be from {buckets // 4 + 1} to {MAX_DISTANCE}, "
            f"got {distance}"
        )
    return RelativeBias(buckets, distance)


def _weight_map(names: tuple[str, ...], spec: ModelSpec) -> WeightMap:
    inner = ("wi",) if spec.gate is None else ("wi_0", "wi_1")  # of a gated MLP the activated half first

    def layer(index: int) -> LayerMap:
        at = f"encoder.block.{index}.layer"
        return LayerMap(
            qkv=linear_map(*(f"{at}.0.SelfAttention.{part}" for part in "qkv"), bias=False),
            attention_out=linear_map(f"{at}.0.SelfAttention.o", bias=False),
            attention_norm=NormMap(f"{at}.0.layer_norm.weight"),
            up=linear_map(*(f"{at}.1.DenseReluDense.{part}" for part in inner), bias=False),
            down=linear_map(f"{at}.1.DenseReluDense.wo", bias=False),
            mlp_norm=NormMap(f"{at}.1.layer_norm.weight"),
        )

    tied = "encoder.embed_tokens.weight"
    return WeightMap(
        word_embeddings=tied if tied in names and "shared.weight" not in names else "shared.weight",
        relative_bias="encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        final_norm=NormMap("encoder.final_layer_norm.weight"),
        unused=UNUSED,
    )


T5: Final = Family("T5", "T5 encoders (jina-embedding-s/b/l-en-v1)", _matches, _describe)
