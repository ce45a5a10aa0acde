"""JinaBERT: jina-embeddings-v2, small-en, base-en, -de, -es, -zh (variant A) and base-code (variant B).

BERT with symmetric ALiBi in place of a position table, and a gated MLP. Variant B also norms q and k over the whole
width and adds the attention's input a second time. Both say model_type "bert"; the tensor names tell them apart, as
`_name_or_path` and auto_map do not survive fine-tuning. Source: arXiv:2310.19923.
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
    read_choice,
    read_head_dim,
    read_num_layers,
    read_positive,
    read_size,
)
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, PoolingMode, WeightMap
from longspan.ops.activations import Activation

# 'feed_forward_type'; the class's other kinds, such as its default "original", were never published with ALiBi.
GATED_ACTIVATIONS: Final[dict[str, Activation]] = {"geglu": "gelu", "reglu": "relu"}
POOLERS: Final[dict[str, PoolingMode]] = {"mean": "mean", "cls": "cls"}
CLASS_MAX_TOKENS: Final = 512  # where the config says nothing
UNUSED: Final = ("pooler.*", "cls.*", "embeddings.position_ids")


def _is_variant_b(names: tuple[str, ...]) -> bool:
    return any(name.endswith(".mlp.up_gated_layer.weight") for name in names)


def _matches(checkpoint: Checkpoint) -> bool:
    """ALiBi or a gated MLP: either alone shows a JinaBERT, if a damaged one."""
    config, names = checkpoint.config, checkpoint.tensor_names
    return config.get_str("model_type", "") == "bert" and (
        config.get_str("position_embedding_type", "absolute") == "alibi"
        or any(name.endswith(".mlp.gated_layers.weight") for name in names)
        or _is_variant_b(names)
    )


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    positions = config.get_str("position_embedding_type", "absolute")
    if positions != "alibi":
        raise CheckpointError(f"{config.source}: 'position_embedding_type' must be 'alibi', got {positions!r}")
    is_b = _is_variant_b(names)
    hidden_size = read_size(config, "hidden_size")
    num_heads = read_size(config, "num_attention_heads")
    spec = ModelSpec(
        family="JinaBERT (variant B)" if is_b else "JinaBERT",
        hidden_size=hidden_size,
        layers=(LayerSpec(),) * read_num_layers(config, "num_hidden_layers", names),
        num_heads=num_heads,
        head_dim=read_head_dim(config, hidden_size, num_heads),
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        token_types=config.get_int("type_vocab_size", 2),
        max_tokens=read_size(config, "max_position_embeddings", CLASS_MAX_TOKENS),
        norm="layer_norm",
        norm_eps=read_positive(config, "layer_norm_eps", 1e-12),
        activation=read_choice(config, "feed_forward_type", "original", GATED_ACTIVATIONS),
        gate="second" if is_b else "first",
        alibi=True,
        qk_norm="width" if is_b else None,
        has_double_residual=is_b,
        default_pooling=POOLERS[read_choice(config, "emb_pooler", "mean", {name: name for name in POOLERS})],
    )
    return spec, _weight_map(names, spec)


def _weight_map(names: tuple[str, ...], spec: ModelSpec) -> WeightMap:
    prefix = find_prefix(names, "embeddings.word_embeddings.weight", ("", "bert."))
    layer = _layer_b if spec.has_double_residual else _layer_a
    return WeightMap(
        word_embeddings=f"{prefix}embeddings.word_embeddings.weight",
        token_type_embeddings=f"{prefix}embeddings.token_type_embeddings.weight",
        embedding_norm=norm_map(f"{prefix}embeddings.LayerNorm", bias=True),
        layers=tuple(layer(f"{prefix}encoder.layer.{index}") for index in range(spec.num_layers)),
        unused=UNUSED + tuple(prefix + pattern for pattern in UNUSED),
    )


def _layer_a(at: str) -> LayerMap:
    return LayerMap(
        qkv=linear_map(*(f"{at}.attention.self.{part}" for part in ("query", "key", "value")), bias=True),
        attention_out=linear_map(f"{at}.attention.output.dense", bias=True),
        attention_norm=norm_map(f"{at}.attention.output.LayerNorm", bias=True),
        up=linear_map(f"{at}.mlp.gated_layers", bias=False),
        down=linear_map(f"{at}.mlp.wo", bias=True),
        mlp_norm=norm_map(f"{at}.mlp.layernorm", bias=True),
    )


def _layer_b(at: str) -> LayerMap:
    return LayerMap(
        qkv=linear_map(*(f"{at}.attention.self.{part}" for part in ("query", "key", "value")), bias=True),
        q_norm=norm_map(f"{at}.attention.self.layer_norm_q", bias=True),
        k_norm=norm_map(f"{at}.attention.self.layer_norm_k", bias=True),
        attention_out=linear_map(f"{at}.attention.output.dense", bias=True),
        attention_norm=norm_map(f"{at}.attention.output.LayerNorm", bias=True),
        residual_norm=norm_map(f"{at}.layer_norm_1", bias=True),
        up=linear_map(f"{at}.mlp.up_gated_layer", bias=False),
        down=linear_map(f"{at}.mlp.down_layer", bias=True),
        mlp_norm=norm_map(f"{at}.layer_norm_2", bias=True),
    )


JINA_BERT: Final = Family("JinaBERT", "JinaBERT with ALiBi (jina-embeddings-v2)", _matches, _describe)
