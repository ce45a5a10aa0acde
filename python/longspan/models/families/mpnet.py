"""MPNet: all-mpnet-base-v2, multi-qa-mpnet-base.

BERT with a table of positions from 2 and, in all layers, one more table of biases by distance, in T5's buckets.
Source: arXiv:2004.09297.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    Family,
    find_prefix,
    linear_map,
    norm_map,
    read_activation,
    read_head_dim,
    read_num_layers,
    read_positive,
    read_size,
    require,
)
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, RelativeBias, WeightMap

FIRST_POSITION: Final = 2  # the class counts from its padding row, 1, whatever the config's pad_token_id
BIAS: Final = RelativeBias(num_buckets=32, max_distance=128)  # the class's own, not the config's
UNUSED: Final = ("pooler.*", "lm_head.*", "embeddings.position_ids")


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "mpnet"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, "MPNet", relative_attention_num_buckets=BIAS.num_buckets)
    hidden_size = read_size(config, "hidden_size")
    num_heads = read_size(config, "num_attention_heads")
    max_tokens = read_size(config, "max_position_embeddings") - FIRST_POSITION
    if max_tokens < 1:
        raise CheckpointError(f"{config.source}: 'max_position_embeddings' must be {FIRST_POSITION + 1} or more")
    spec = ModelSpec(
        family="MPNet",
        hidden_size=hidden_size,
        layers=(LayerSpec(),) * read_num_layers(config, "num_hidden_layers", names),
        num_heads=num_heads,
        head_dim=read_head_dim(config, hidden_size, num_heads),
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        max_tokens=max_tokens,
        position_offset=FIRST_POSITION,
        norm="layer_norm",
        norm_eps=read_positive(config, "layer_norm_eps", 1e-12),
        activation=read_activation(config, "hidden_act"),
        relative_bias=BIAS,
    )
    return spec, _weight_map(names, spec)


def _weight_map(names: tuple[str, ...], spec: ModelSpec) -> WeightMap:
    prefix = find_prefix(names, "embeddings.word_embeddings.weight", ("", "mpnet."))

    def layer(index: int) -> LayerMap:
        at = f"{prefix}encoder.layer.{index}"
        return LayerMap(
            qkv=linear_map(*(f"{at}.attention.attn.{part}" for part in "qkv"), bias=True),
            attention_out=linear_map(f"{at}.attention.attn.o", bias=True),
            attention_norm=norm_map(f"{at}.attention.LayerNorm", bias=True),
            up=linear_map(f"{at}.intermediate.dense", bias=True),
            down=linear_map(f"{at}.output.dense", bias=True),
            mlp_norm=norm_map(f"{at}.output.LayerNorm", bias=True),
        )

    return WeightMap(
        word_embeddings=f"{prefix}embeddings.word_embeddings.weight",
        position_embeddings=f"{prefix}embeddings.position_embeddings.weight",
        relative_bias=f"{prefix}encoder.relative_attention_bias.weight",
        embedding_norm=norm_map(f"{prefix}embeddings.LayerNorm", bias=True),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        unused=UNUSED + tuple(prefix + pattern for pattern in UNUSED),
    )


MPNET: Final = Family("MPNet", "MPNet (all-mpnet-base-v2)", _matches, _describe)
