"""BERT and RoBERTa encoders with absolute positions.

BERT: MiniLM, BGE, GTE, English E5, and others of model_type "bert"; ELECTRA is one under another name. RoBERTa:
XLM-RoBERTa (multilingual E5, the dense vectors of BGE-M3), RoBERTa and CamemBERT, whose positions start after the
padding id. All have post-norm layers with biases everywhere. Source: arXiv:1810.04805, arXiv:1911.02116,
arXiv:2003.10555.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    Family,
    find_prefix,
    read_activation,
    read_head_dim,
    read_num_layers,
    read_size,
    require,
)
from longspan.models.spec import LayerMap, LayerSpec, LinearMap, ModelSpec, NormMap, WeightMap

ROBERTA_TYPES: Final = ("xlm-roberta", "roberta", "camembert")
# Heads that published files carry beside the encoder, and a table of 0, 1, 2, … that old versions saved.
UNUSED: Final = ("pooler.*", "embeddings.position_ids", "cls.*", "lm_head.*", "discriminator_*", "generator_*")


def _is_plain(checkpoint: Checkpoint) -> bool:
    """Absolute positions and BERT's own tensor names: JinaBERT says "bert" too, jina v3 says "xlm-roberta"."""
    is_absolute = checkpoint.config.get_str("position_embedding_type", "absolute") == "absolute"
    return is_absolute and any(
        name.endswith("embeddings.position_embeddings.weight") for name in checkpoint.tensor_names
    )


def _matches_bert(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "bert" and _is_plain(checkpoint)


def _matches_roberta(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") in ROBERTA_TYPES and _is_plain(checkpoint)


def _describe_bert(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    spec = _spec(checkpoint, family="BERT", position_offset=0)
    return spec, _weight_map(checkpoint.tensor_names, spec, ("", "bert."))


def _matches_electra(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "electra" and _is_plain(checkpoint)


def _describe_electra(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config = checkpoint.config
    require(config, "ELECTRA", embedding_size=read_size(config, "hidden_size"))
    if config.get_int("embedding_size", 128) != config.get_int("hidden_size"):  # absent, it is the class's own
        raise CheckpointError(
            f"{config.source}: 'embedding_size' is missing and 128 by default; ELECTRA is supported with one of "
            f"'hidden_size' only"
        )
    spec = _spec(checkpoint, family="ELECTRA", position_offset=0)
    return spec, _weight_map(checkpoint.tensor_names, spec, ("", "electra."))


def _describe_roberta(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    first_position = checkpoint.config.get_int("pad_token_id", 1) + 1
    spec = _spec(checkpoint, family="RoBERTa", position_offset=first_position)
    return spec, _weight_map(checkpoint.tensor_names, spec, ("", "roberta."))


def _spec(checkpoint: Checkpoint, *, family: str, position_offset: int) -> ModelSpec:
    config = checkpoint.config
    if config.get_bool("is_decoder", False):
        raise CheckpointError(f"{config.source}: 'is_decoder' is true; {family} is supported as an encoder only")
    hidden_size = read_size(config, "hidden_size")
    num_heads = read_size(config, "num_attention_heads")
    max_tokens = read_size(config, "max_position_embeddings") - position_offset
    if max_tokens < 1:
        raise CheckpointError(f"{config.source}: 'max_position_embeddings' leaves no position after {position_offset}")
    return ModelSpec(
        family=family,
        hidden_size=hidden_size,
        layers=(LayerSpec(),) * read_num_layers(config, "num_hidden_layers", checkpoint.tensor_names),
        num_heads=num_heads,
        head_dim=read_head_dim(config, hidden_size, num_heads),
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        token_types=read_size(config, "type_vocab_size"),
        max_tokens=max_tokens,
        position_offset=position_offset,
        norm="layer_norm",
        norm_eps=config.get_float("layer_norm_eps", 1e-12),
        activation=read_activation(config, "hidden_act"),
    )


def _weight_map(names: tuple[str, ...], spec: ModelSpec, prefixes: tuple[str, ...]) -> WeightMap:
    prefix = find_prefix(names, "embeddings.word_embeddings.weight", prefixes)
    # Files written before 2020 call a norm's scale and shift gamma and beta.
    scale, shift = ("gamma", "beta") if f"{prefix}embeddings.LayerNorm.gamma" in names else ("weight", "bias")

    def norm(module: str) -> NormMap:
        return NormMap(f"{module}.LayerNorm.{scale}", f"{module}.LayerNorm.{shift}")

    def linear(*modules: str) -> LinearMap:
        return LinearMap(tuple(f"{m}.weight" for m in modules), tuple(f"{m}.bias" for m in modules))

    def layer(index: int) -> LayerMap:
        at = f"{prefix}encoder.layer.{index}"
        return LayerMap(
            qkv=linear(*(f"{at}.attention.self.{part}" for part in ("query", "key", "value"))),
            attention_out=linear(f"{at}.attention.output.dense"),
            attention_norm=norm(f"{at}.attention.output"),
            up=linear(f"{at}.intermediate.dense"),
            down=linear(f"{at}.output.dense"),
            mlp_norm=norm(f"{at}.output"),
        )

    token_types = f"{prefix}embeddings.token_type_embeddings.weight"
    return WeightMap(
        word_embeddings=f"{prefix}embeddings.word_embeddings.weight",
        position_embeddings=f"{prefix}embeddings.position_embeddings.weight",
        token_type_embeddings=token_types,
        embedding_norm=norm(f"{prefix}embeddings"),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        unused=UNUSED + tuple(prefix + pattern for pattern in UNUSED),
    )


BERT: Final = Family("BERT", "BERT with absolute positions (MiniLM, BGE, GTE, E5)", _matches_bert, _describe_bert)
ELECTRA: Final = Family("ELECTRA", "ELECTRA with embeddings of the layers' width", _matches_electra, _describe_electra)
ROBERTA: Final = Family(
    "RoBERTa", "XLM-RoBERTa, RoBERTa and CamemBERT with absolute positions", _matches_roberta, _describe_roberta
)
