"""ModernBERT: ModernBERT-base and -large, gte-modernbert-base, modernbert-embed.

Pre-norm layers without biases, gated MLPs, RoPE. Most layers see a window only; the others see all and turn with a
theta of their own. The first layer has no attention norm. Source: arXiv:2412.13663.
"""

from __future__ import annotations

from typing import Final, Literal

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
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, Rotary, WeightMap

LayerKind = Literal["full_attention", "sliding_attention"]
FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"
UNUSED: Final = ("head.*", "decoder.*")  # the masked language model's


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "modernbert"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, "ModernBERT", norm_bias=False, attention_bias=False, mlp_bias=False, rope_scaling=None)
    hidden_size = read_size(config, "hidden_size")
    num_heads = read_size(config, "num_attention_heads")
    head_dim = read_head_dim(config, hidden_size, num_heads)
    spec = ModelSpec(
        family="ModernBERT",
        hidden_size=hidden_size,
        layers=_layers(config, read_num_layers(config, "num_hidden_layers", names), head_dim),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        max_tokens=read_size(config, "max_position_embeddings"),
        norm="layer_norm",
        norm_eps=read_positive(config, "norm_eps", 1e-5),
        activation=read_activation(config, "hidden_activation"),
        gate="first",
        is_prenorm=True,
    )
    return spec, _weight_map(names, spec)


def _layers(config: JsonObject, num_layers: int, head_dim: int) -> tuple[LayerSpec, ...]:
    check_rotary_dim(config, head_dim, head_dim)
    width = config.get_int("local_attention", 128)
    if width < 2:
        raise CheckpointError(f"{config.source}: 'local_attention' must be 2 or more, got {width}")
    each_side = width // 2
    layers: dict[str, LayerSpec] = {
        FULL: LayerSpec(Rotary(_theta(config, FULL), head_dim)),
        SLIDING: LayerSpec(Rotary(_theta(config, SLIDING), head_dim), window=(each_side, each_side)),
    }
    return tuple(layers[kind] for kind in _layer_kinds(config, num_layers))


def _layer_kinds(config: JsonObject, num_layers: int) -> list[LayerKind]:
    """By `layer_types`, one a layer, or every n-th one full as older configs write it."""
    listed = config.get_list("layer_types", None)
    if listed is None:
        every = config.get_int("global_attn_every_n_layers", 3)
        if every < 1:
            raise CheckpointError(f"{config.source}: 'global_attn_every_n_layers' must be 1 or more, got {every}")
        return [SLIDING if index % every else FULL for index in range(num_layers)]
    kinds: list[LayerKind] = [SLIDING if kind == SLIDING else FULL for kind in listed]
    if kinds != listed or len(kinds) != num_layers:
        raise CheckpointError(f"{config.source}: 'layer_types' must be {num_layers} of {FULL!r} and {SLIDING!r}")
    return kinds


def _theta(config: JsonObject, kind: LayerKind) -> float:
    """Of `rope_parameters`, or of the keys that older configs have."""
    key, default = ("global_rope_theta", 160_000.0) if kind == FULL else ("local_rope_theta", 10_000.0)
    by_kind = config.get_object("rope_parameters", None)
    rope = None if by_kind is None else by_kind.get_object(kind, None)
    if rope is None:
        return read_positive(config, key, default)
    require(rope, "ModernBERT", rope_type="default", partial_rotary_factor=1.0)
    return read_positive(rope, "rope_theta", config.get_float(key, default))


def _weight_map(names: tuple[str, ...], spec: ModelSpec) -> WeightMap:
    prefix = find_prefix(names, "embeddings.tok_embeddings.weight", ("", "model."))

    def layer(index: int) -> LayerMap:
        at = f"{prefix}layers.{index}"
        return LayerMap(
            qkv=linear_map(f"{at}.attn.Wqkv", bias=False),
            attention_out=linear_map(f"{at}.attn.Wo", bias=False),
            attention_norm=norm_map(f"{at}.attn_norm", bias=False) if index else None,
            up=linear_map(f"{at}.mlp.Wi", bias=False),
            down=linear_map(f"{at}.mlp.Wo", bias=False),
            mlp_norm=norm_map(f"{at}.mlp_norm", bias=False),
        )

    return WeightMap(
        word_embeddings=f"{prefix}embeddings.tok_embeddings.weight",
        embedding_norm=norm_map(f"{prefix}embeddings.norm", bias=False),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        final_norm=norm_map(f"{prefix}final_norm", bias=False),
        unused=UNUSED,
    )


MODERNBERT: Final = Family("ModernBERT", "ModernBERT", _matches, _describe)
