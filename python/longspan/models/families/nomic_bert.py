"""NomicBERT: nomic-embed-text-v1 and -v1.5, CodeRankEmbed; and with experts nomic-embed-text-v2-moe.

BERT with RoPE in place of a position table. v1 has a gated MLP and no biases but the norms'; v2 has biases, a plain
MLP, and in every other layer eight of them, of which a token takes two. The published configs have GPT-2's keys,
transformers' own those of BERT, over the same tensors or under names of its own.
Source: arXiv:2402.01613, arXiv:2502.07972.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    Family,
    check_rotary_dim,
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
from longspan.models.families.rope import read_rotary
from longspan.models.spec import (
    ExpertsMap,
    ExpertSpec,
    LayerMap,
    LayerSpec,
    ModelSpec,
    Rotary,
    RotaryScaling,
    WeightMap,
)

FAMILY: Final = "NomicBERT"
MOE_FAMILY: Final = "NomicBERT with experts"
SWIGLU: Final = "swiglu"
UNUSED: Final = ("pooler.*", "cls.*")
LARGEST_FACTOR: Final = 1024.0


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "nomic_bert"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    names, config = checkpoint.tensor_names, checkpoint.config
    if config.get("n_embd") is None and config.get("hidden_size") is not None:
        spec = _native_spec(config, names)
        return spec, _weight_map(names, spec, None, has_bias=False)
    require(config, FAMILY, rotary_emb_scale_base=None, rotary_emb_interleaved=False, causal=False, prenorm=False)
    require(config, FAMILY, parallel_block=False, use_rms_norm=False)
    require(config, FAMILY, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)
    every = _moe_every(config)
    has_bias = config.get_bool("qkv_proj_bias", False)
    require(config, FAMILY, mlp_fc1_bias=has_bias, mlp_fc2_bias=has_bias)
    spec = _published_spec(config, names, every)
    return spec, _weight_map(names, spec, every, has_bias=has_bias)


def _moe_every(config: JsonObject) -> int | None:
    """Every how many layers one has experts; None where none has."""
    every = config.get_int("moe_every_n_layers", 0)
    if not every and not config.get_int("num_experts", 0):
        return None
    require(config, MOE_FAMILY, moe_normalize_expert_weights=False, num_shared_experts=0, expert_choice_router=False)
    require(config, MOE_FAMILY, ffn_div=1)
    if every < 2:  # the layers are those with index % every == 1
        raise CheckpointError(f"{config.source}: 'moe_every_n_layers' must be 2 or more, got {every}")
    return every


def _published_spec(config: JsonObject, names: tuple[str, ...], every: int | None) -> ModelSpec:
    hidden_size, num_heads = read_size(config, "n_embd"), read_size(config, "n_head")
    head_dim = read_head_dim(config, hidden_size, num_heads, keys=("n_embd", "n_head"))
    turned = int(head_dim * read_positive(config, "rotary_emb_fraction", 1.0))
    positions = read_size(config, "n_positions")
    scaling = _scaling(config, positions)
    rotary = Rotary(
        read_positive(config, "rotary_emb_base"), check_rotary_dim(config, turned, head_dim), scaling=scaling
    )
    is_gated = config.get_str("activation_function") == SWIGLU
    if is_gated and every is not None:
        raise CheckpointError(f"{config.source}: 'activation_function' of a model with experts must not be {SWIGLU!r}")
    if not is_gated and config.get_str("activation_function") != "gelu":
        raise CheckpointError(
            f"{config.source}: 'activation_function' must be {SWIGLU!r} or 'gelu', "
            f"got {config.get_str('activation_function')!r}"
        )
    experts = None
    if every is not None:
        experts = ExpertSpec(read_size(config, "num_experts"), read_size(config, "moe_top_k"))
        if experts.top_k > experts.num_experts:
            raise CheckpointError(f"{config.source}: 'moe_top_k' must be at most 'num_experts', got {experts.top_k}")
    return ModelSpec(
        family=FAMILY if every is None else MOE_FAMILY,
        hidden_size=hidden_size,
        layers=(LayerSpec(rotary),) * read_num_layers(config, "n_layer", names),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "n_inner"),
        vocab_size=read_size(config, "vocab_size"),
        token_types=read_size(config, "type_vocab_size"),
        max_tokens=positions if scaling is None else int(positions * scaling.factor),
        default_max_tokens=None if scaling is None else positions,
        norm="layer_norm",
        norm_eps=read_positive(config, "layer_norm_epsilon", 1e-12),
        activation="silu" if is_gated else "gelu",
        gate="second" if is_gated else None,
        experts=experts,
        default_normalize=every is not None,
    )


def _scaling(config: JsonObject, positions: int) -> RotaryScaling | None:
    """`rotary_scaling_factor`: dynamic NTK beyond `max_trained_positions`."""
    factor = config.get_float("rotary_scaling_factor", None)
    if factor is None:
        return None
    if not 1 <= factor <= LARGEST_FACTOR:
        raise CheckpointError(f"{config.source}: 'rotary_scaling_factor' must be from 1 to 1024, got {factor}")
    return RotaryScaling("dynamic", factor, read_size(config, "max_trained_positions", positions))


def _native_spec(config: JsonObject, names: tuple[str, ...]) -> ModelSpec:
    """By transformers' own keys; its class is the one of v1."""
    require(config, FAMILY, hidden_act="silu", is_decoder=False)
    hidden_size, num_heads = read_size(config, "hidden_size"), read_size(config, "num_attention_heads")
    head_dim = read_head_dim(config, hidden_size, num_heads)
    require(config, FAMILY, head_dim=head_dim)
    positions = read_size(config, "max_position_embeddings")
    return ModelSpec(
        family=FAMILY,
        hidden_size=hidden_size,
        layers=(LayerSpec(read_rotary(config, head_dim, head_dim, positions=positions)),)
        * read_num_layers(config, "num_hidden_layers", names),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        token_types=read_size(config, "type_vocab_size"),
        max_tokens=positions,
        norm="layer_norm",
        norm_eps=read_positive(config, "layer_norm_eps", 1e-12),
        activation=read_activation(config, "hidden_act"),
        gate="second",
    )


def _weight_map(names: tuple[str, ...], spec: ModelSpec, every: int | None, *, has_bias: bool) -> WeightMap:
    prefix = find_prefix(names, "embeddings.word_embeddings.weight", ("", "bert.", "nomic_bert."))
    is_native = every is None and not has_bias and has_native_layers(names, prefix)

    def layer(index: int) -> LayerMap:
        if is_native:
            at, parts = f"{prefix}layers.{index}", ("up_proj", "gate_proj")
            return native_layer(at, up=parts, down="down_proj", attention_bias=False, up_bias=False, down_bias=False)
        at = f"{prefix}encoder.layers.{index}"
        has_experts = every is not None and index % every == 1
        up = ("fc1",) if spec.gate is None else ("fc11", "fc12")
        return LayerMap(
            qkv=linear_map(f"{at}.attn.Wqkv", bias=has_bias),
            attention_out=linear_map(f"{at}.attn.out_proj", bias=has_bias),
            attention_norm=norm_map(f"{at}.norm1", bias=True),
            up=None if has_experts else linear_map(*(f"{at}.mlp.{part}" for part in up), bias=has_bias),
            down=None if has_experts else linear_map(f"{at}.mlp.fc2", bias=has_bias),
            experts=_experts(f"{at}.mlp") if has_experts else None,
            mlp_norm=norm_map(f"{at}.norm2", bias=True),
        )

    return WeightMap(
        word_embeddings=f"{prefix}embeddings.word_embeddings.weight",
        token_type_embeddings=f"{prefix}embeddings.token_type_embeddings.weight",
        embedding_norm=norm_map(f"{prefix}{'embeddings.LayerNorm' if is_native else 'emb_ln'}", bias=True),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        unused=UNUSED + tuple(prefix + pattern for pattern in UNUSED),
    )


def _experts(at: str) -> ExpertsMap:
    return ExpertsMap(
        router=f"{at}.router.layer.weight",
        up=f"{at}.experts.mlp.w1",
        down=f"{at}.experts.mlp.w2",
        bias=f"{at}.experts.bias",
    )


NOMIC_BERT: Final = Family(FAMILY, "NomicBERT (nomic-embed-text v1, v1.5 and v2-moe)", _matches, _describe)
