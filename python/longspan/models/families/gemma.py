"""EmbeddingGemma: Gemma 3's text model with every token seeing both sides.

Pre-norm layers with RMS norms whose scale is 1 + weight, four a layer: before and behind attention and MLP; q and k
normed over each head; an MLP gated with GELU's tanh form; embeddings times sqrt(hidden). Most layers see a window, and
turn with a theta of their own. Source: arXiv:2509.20354, arXiv:2503.19786.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    Family,
    check_rotary_dim,
    find_prefix,
    linear_map,
    read_activation,
    read_num_layers,
    read_positive,
    read_size,
    require,
)
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, NormMap, Rotary, WeightMap

FAMILY: Final = "EmbeddingGemma"
FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "gemma3_text"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, FAMILY, attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None)
    require(config, FAMILY, rope_scaling=None)
    if not config.get_bool("use_bidirectional_attention", False):
        raise CheckpointError(
            f"{config.source}: 'use_bidirectional_attention' must be true; a causal Gemma is no embedding model"
        )
    num_heads, kv_heads = read_size(config, "num_attention_heads"), read_size(config, "num_key_value_heads")
    if num_heads % kv_heads:
        raise CheckpointError(
            f"{config.source}: 'num_attention_heads' {num_heads} is no multiple of 'num_key_value_heads' {kv_heads}"
        )
    head_dim = read_size(config, "head_dim", 256)
    hidden_size = read_size(config, "hidden_size")
    prefix = find_prefix(names, "embed_tokens.weight", ("", "model.", "model.language_model."))
    spec = ModelSpec(
        family=FAMILY,
        hidden_size=hidden_size,
        layers=_layers(config, read_num_layers(config, "num_hidden_layers", names), head_dim),
        num_heads=num_heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        max_tokens=read_size(config, "max_position_embeddings"),
        norm="rms_norm",
        norm_eps=read_positive(config, "rms_norm_eps", 1e-6),
        activation=read_activation(config, "hidden_activation", "gelu_pytorch_tanh"),
        gate="first",
        softmax_scale=read_positive(config, "query_pre_attn_scalar", 256) ** -0.5,
        embedding_scale=_embedding_scale(checkpoint, f"{prefix}embed_tokens.weight", hidden_size),
        is_prenorm=True,
        qk_norm="head",
        default_normalize=True,
    )
    return spec, _weight_map(prefix, spec)


def _embedding_scale(checkpoint: Checkpoint, table: str, hidden_size: int) -> float:
    """sqrt(hidden), rounded to the dtype of the table as the class does: 27.75 in bfloat16, 27.7128 in float32."""
    scale = np.float32(math.sqrt(hidden_size))
    if table in checkpoint.tensor_names and checkpoint.tensors.dtype(table) == "BF16":
        bits = int(scale.view(np.uint32))
        scale = np.uint32((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
    return float(scale)


def _layers(config: JsonObject, num_layers: int, head_dim: int) -> tuple[LayerSpec, ...]:
    check_rotary_dim(config, head_dim, head_dim)
    window = config.get_int("sliding_window", 4096)
    if window < 2:
        raise CheckpointError(f"{config.source}: 'sliding_window' must be 2 or more, got {window}")
    each_side = window // 2
    layers = {
        FULL: LayerSpec(Rotary(_theta(config, FULL), head_dim)),
        SLIDING: LayerSpec(Rotary(_theta(config, SLIDING), head_dim), window=(each_side, each_side)),
    }
    listed = config.get_list("layer_types", None)
    if listed is None:
        every = read_size(config, "sliding_window_pattern", read_size(config, "_sliding_window_pattern", 6))
        return tuple(layers[SLIDING if (index + 1) % every else FULL] for index in range(num_layers))
    if len(listed) != num_layers or any(not isinstance(kind, str) or kind not in layers for kind in listed):
        raise CheckpointError(f"{config.source}: 'layer_types' must be {num_layers} of {FULL!r} and {SLIDING!r}")
    return tuple(layers[str(kind)] for kind in listed)


def _theta(config: JsonObject, kind: str) -> float:
    """Of `rope_parameters`, or of the keys that older configs have."""
    key, default = ("rope_theta", 1e6) if kind == FULL else ("rope_local_base_freq", 1e4)
    by_kind = config.get_object("rope_parameters", None)
    rope = None if by_kind is None else by_kind.get_object(kind, None)
    if rope is None:
        return read_positive(config, key, default)
    require(rope, FAMILY, rope_type="default", partial_rotary_factor=1.0)
    return read_positive(rope, "rope_theta", config.get_float(key, default))


def _weight_map(prefix: str, spec: ModelSpec) -> WeightMap:
    def norm(module: str) -> NormMap:
        return NormMap(f"{module}.weight", adds_one=True)

    def layer(index: int) -> LayerMap:
        at = f"{prefix}layers.{index}"
        return LayerMap(
            qkv=linear_map(*(f"{at}.self_attn.{part}_proj" for part in "qkv"), bias=False),
            q_norm=norm(f"{at}.self_attn.q_norm"),
            k_norm=norm(f"{at}.self_attn.k_norm"),
            attention_out=linear_map(f"{at}.self_attn.o_proj", bias=False),
            attention_norm=norm(f"{at}.input_layernorm"),
            attention_post_norm=norm(f"{at}.post_attention_layernorm"),
            up=linear_map(f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj", bias=False),
            down=linear_map(f"{at}.mlp.down_proj", bias=False),
            mlp_norm=norm(f"{at}.pre_feedforward_layernorm"),
            mlp_post_norm=norm(f"{at}.post_feedforward_layernorm"),
        )

    return WeightMap(
        word_embeddings=f"{prefix}embed_tokens.weight",
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        final_norm=norm(f"{prefix}norm"),
        unused=("lm_head.weight",),
    )


EMBEDDING_GEMMA: Final = Family(FAMILY, "EmbeddingGemma (Gemma 3 with attention to both sides)", _matches, _describe)
