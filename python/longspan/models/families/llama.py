"""What Qwen2, Qwen3, the text side of Qwen2.5-VL and EuroBERT share, and took over from Llama: config keys and tensor
names. Pre-norm layers with RMS norms, RoPE, grouped heads, an MLP gated with SiLU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    find_prefix,
    linear_map,
    norm_map,
    read_activation,
    read_num_layers,
    read_positive,
    read_size,
)
from longspan.models.families.rope import PLAIN, read_rotary, scaled_tokens
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, PoolingMode, WeightMap

FULL: Final = "full_attention"


def llama_spec(
    config: JsonObject,
    names: tuple[str, ...],
    *,
    family: str,
    head_dim: int,
    rope_kinds: tuple[str, ...] = PLAIN,
    causal: bool,
    default_pooling: PoolingMode,
    default_normalize: bool,
    qk_norm: Literal["head"] | None = None,
    max_tokens: int | None = None,
    sections: tuple[int, ...] = (),
) -> ModelSpec:
    """The spec.

    Args:
        rope_kinds: as `read_rotary`'s `plain`.
        max_tokens: a limit below what the positions allow, if there is one.
        sections: how many of RoPE's angles go by each coordinate of a token, where tokens have several.
    """
    num_heads = read_size(config, "num_attention_heads")
    kv_heads = config.get_int("num_key_value_heads", num_heads)
    if kv_heads < 1 or num_heads % kv_heads:
        raise CheckpointError(
            f"{config.source}: 'num_attention_heads' {num_heads} is no multiple of 'num_key_value_heads' {kv_heads}"
        )
    if any(kind != FULL for kind in config.get_list("layer_types", None) or []):
        raise CheckpointError(
            f"{config.source}: 'layer_types' must be {FULL!r} throughout; {family} with windows (as jina-reranker-v3.5 "
            f"has) is not supported"
        )
    positions = read_size(config, "max_position_embeddings")
    rotary = read_rotary(config, head_dim, head_dim, plain=rope_kinds, positions=positions)
    if sections and 2 * sum(sections) != head_dim:
        raise CheckpointError(
            f"{config.source}: 'mrope_section' must add up to {head_dim // 2}, half of a head, got {sum(sections)}"
        )
    rotary = replace(rotary, sections=sections)
    positions = scaled_tokens(rotary, positions)
    return ModelSpec(
        family=family,
        hidden_size=read_size(config, "hidden_size"),
        layers=(LayerSpec(rotary),) * read_num_layers(config, "num_hidden_layers", names),
        num_heads=num_heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        max_tokens=positions if max_tokens is None else min(positions, max_tokens),
        norm="rms_norm",
        norm_eps=read_positive(config, "rms_norm_eps"),
        activation=read_activation(config, "hidden_act"),
        gate="first",
        causal=causal,
        is_prenorm=True,
        qk_norm=qk_norm,
        default_pooling=default_pooling,
        default_normalize=default_normalize,
    )


def llama_weight_map(
    names: tuple[str, ...],
    spec: ModelSpec,
    *,
    prefixes: tuple[str, ...] = ("", "model."),
    has_qkv_bias: bool = False,
    unused: tuple[str, ...] = (),
) -> WeightMap:
    """The tensors, under the prefix that the embedding table has. A language model's head, tied or not, is unused."""
    prefix = find_prefix(names, "embed_tokens.weight", prefixes)

    def layer(index: int) -> LayerMap:
        at = f"{prefix}layers.{index}"
        is_normed = spec.qk_norm is not None
        return LayerMap(
            qkv=linear_map(*(f"{at}.self_attn.{part}_proj" for part in "qkv"), bias=has_qkv_bias),
            q_norm=norm_map(f"{at}.self_attn.q_norm", bias=False) if is_normed else None,
            k_norm=norm_map(f"{at}.self_attn.k_norm", bias=False) if is_normed else None,
            attention_out=linear_map(f"{at}.self_attn.o_proj", bias=False),
            attention_norm=norm_map(f"{at}.input_layernorm", bias=False),
            up=linear_map(f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj", bias=False),
            down=linear_map(f"{at}.mlp.down_proj", bias=False),
            mlp_norm=norm_map(f"{at}.post_attention_layernorm", bias=False),
        )

    return WeightMap(
        word_embeddings=f"{prefix}embed_tokens.weight",
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        final_norm=norm_map(f"{prefix}norm", bias=False),
        unused=("lm_head.weight", *unused),
    )
