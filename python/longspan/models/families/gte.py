"""GTE in the layout of Alibaba's "new": gte-multilingual-base, gte-base-en-v1.5, gte-large-en-v1.5,
snowflake-arctic-embed-m-v2.0, and the reranker of gte-multilingual.

BERT with RoPE in place of a position table and a gated MLP whose second half is activated. transformers calls the
family "gte", saves it under the same tensor names, and has names of its own besides.
Source: arXiv:2407.19669 and its published code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
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
from longspan.models.families.native_layers import has_native_layers, native_layer
from longspan.models.families.rope import PLAIN, read_factor, read_rotary, scaled_tokens
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, Rotary, RotaryScaling, WeightMap

FAMILY: Final = "GTE"
NTK: Final = "ntk"
# The pooler, the token weights of gte-multilingual or a classifier's head, the masked language model's.
UNUSED: Final = ("pooler.*", "classifier.*", "lm_head.*", "embeddings.position_ids")


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") in ("new", "gte")


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, FAMILY, position_embedding_type="rope", layer_norm_type="layer_norm")
    require(config, FAMILY, logn_attention_scale=False, logn_attention_clip1=False)
    hidden_size = read_size(config, "hidden_size")
    num_heads = read_size(config, "num_attention_heads")
    head_dim = read_head_dim(config, hidden_size, num_heads)
    positions = read_size(config, "max_position_embeddings")
    rotary = _rotary(config, head_dim, positions)
    spec = ModelSpec(
        family=FAMILY,
        hidden_size=hidden_size,
        layers=(LayerSpec(rotary),) * read_num_layers(config, "num_hidden_layers", names),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        token_types=config.get_int("type_vocab_size", 0),
        max_tokens=scaled_tokens(rotary, positions),
        norm="layer_norm",
        norm_eps=read_positive(config, "layer_norm_eps", 1e-12),
        activation=read_activation(config, "hidden_act"),
        gate="second",
        default_pooling="cls",
        default_normalize=True,
    )
    return spec, _weight_map(names, spec)


def _rotary(config: JsonObject, head_dim: int, positions: int) -> Rotary:
    """With the fixed NTK scaling of the published code, which holds at every length."""
    rotary = read_rotary(config, head_dim, head_dim, plain=(*PLAIN, NTK), positions=positions)
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get_object(key, None)
        if rope is None or NTK not in (rope.get_str("type", ""), rope.get_str("rope_type", "")):
            continue
        if rope.get("mixed_b") is not None:
            raise CheckpointError(f"{rope.source}: 'mixed_b' must be absent or null; mixed NTK is not supported")
        return replace(rotary, scaling=RotaryScaling("ntk", read_factor(rope)))
    return rotary


def _weight_map(names: tuple[str, ...], spec: ModelSpec) -> WeightMap:
    prefix = find_prefix(names, "embeddings.word_embeddings.weight", ("new.", "gte.", ""))
    is_native = has_native_layers(names, prefix)
    is_packed = f"{prefix}encoder.layer.0.attention.q_proj.weight" not in names

    def layer(index: int) -> LayerMap:
        if is_native:
            at, up = f"{prefix}layers.{index}", ("up_proj", "gate_proj")
            return native_layer(at, up=up, down="down_proj", attention_bias=True, up_bias=False, down_bias=True)
        at = f"{prefix}encoder.layer.{index}"
        parts = ("qkv_proj",) if is_packed else ("q_proj", "k_proj", "v_proj")
        return LayerMap(
            qkv=linear_map(*(f"{at}.attention.{part}" for part in parts), bias=True),
            attention_out=linear_map(f"{at}.attention.o_proj", bias=True),
            attention_norm=norm_map(f"{at}.attn_ln", bias=True),
            up=linear_map(f"{at}.mlp.up_gate_proj", bias=False),
            down=linear_map(f"{at}.mlp.down_proj", bias=True),
            mlp_norm=norm_map(f"{at}.mlp_ln", bias=True),
        )

    token_types = f"{prefix}embeddings.token_type_embeddings.weight"
    return WeightMap(
        word_embeddings=f"{prefix}embeddings.word_embeddings.weight",
        token_type_embeddings=token_types if spec.token_types else None,
        embedding_norm=norm_map(f"{prefix}embeddings.LayerNorm", bias=True),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        unused=UNUSED + tuple(prefix + pattern for pattern in UNUSED),
    )


GTE: Final = Family(
    FAMILY, "GTE (gte-multilingual-base, gte-*-en-v1.5, snowflake-arctic-embed-m-v2.0)", _matches, _describe
)
