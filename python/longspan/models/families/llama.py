"""What Qwen2, Qwen3, the text side of Qwen2.5-VL and EuroBERT share, and took over from Llama: config keys and tensor
names. Pre-norm layers with RMS norms, RoPE, grouped heads, an MLP gated with SiLU.
"""

from __future__ import annotations

from typing import Literal

from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    check_rotary_dim,
    find_prefix,
    linear_map,
    norm_map,
    read_activation,
    read_num_layers,
    read_positive,
    read_size,
)
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, PoolingMode, Rotary, WeightMap


def llama_spec(
    config: JsonObject,
    names: tuple[str, ...],
    *,
    family: str,
    head_dim: int,
    theta: float,
    causal: bool,
    default_pooling: PoolingMode,
    default_normalize: bool,
    qk_norm: Literal["head"] | None = None,
    max_tokens: int | None = None,
) -> ModelSpec:
    """The spec; `max_tokens` is a limit below `max_position_embeddings`, if there is one."""
    num_heads = read_size(config, "num_attention_heads")
    kv_heads = config.get_int("num_key_value_heads", num_heads)
    if kv_heads < 1 or num_heads % kv_heads:
        raise CheckpointError(
            f"{config.source}: 'num_attention_heads' {num_heads} is no multiple of 'num_key_value_heads' {kv_heads}"
        )
    rotary = Rotary(theta, check_rotary_dim(config, head_dim, head_dim))
    positions = read_size(config, "max_position_embeddings")
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


def read_rope_theta(config: JsonObject, *, kinds: tuple[str, ...] = ("default",)) -> float:
    """RoPE's base, from `rope_theta` or, as newer configs have it, from `rope_parameters`.

    Args:
        kinds: the rope types under which the places of a text are still 0, 1, 2, … and the angles plain.
    """
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get_object(key, None)
        if rope is not None:
            _check_rope_type(rope, kinds)
    theta = config.get_float("rope_theta", None)
    rope = config.get_object("rope_parameters", None)
    newer = None if rope is None else rope.get_float("rope_theta", None)
    if theta is not None and newer is not None and theta != newer:
        raise CheckpointError(f"{config.source}: 'rope_theta' is {theta}, but {newer} in 'rope_parameters'")
    if newer is not None and rope is not None:
        return read_positive(rope, "rope_theta")
    return read_positive(config, "rope_theta")


def _check_rope_type(rope: JsonObject, kinds: tuple[str, ...]) -> None:
    for key in ("rope_type", "type"):
        kind = rope.get_str(key, "default")
        if kind not in kinds:
            raise CheckpointError(
                f"{rope.source}: {key!r} must be one of {', '.join(kinds)}, got {kind!r}; "
                f"positions scaled in another way are not supported"
            )
