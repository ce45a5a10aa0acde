"""Static models: a vector a token and their mean; model2vec's potion models, sentence-transformers' StaticEmbedding.

No layers, no attention: the table stays in its file, and a text touches a few of its rows. model2vec's files may hold a
weight for each token and, where rows were merged, which row is whose. Source: github.com/MinishLab/model2vec.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.families.family import Family, read_size
from longspan.models.spec import ModelSpec, StaticSpec, WeightMap

MODEL2VEC: Final = "embeddings"
SENTENCE_TRANSFORMERS: Final = "embedding.weight"
MAPPING: Final = "mapping"
WEIGHTS: Final = "weights"
MAX_TOKENS: Final = 1 << 20  # a mean takes any number; a bound all the same, for sizes that stay sane
MODEL2VEC_TOKENS: Final = 512  # where the config says nothing


def _matches(checkpoint: Checkpoint) -> bool:
    is_module = bool(checkpoint.modules) and checkpoint.modules[0].kind == "StaticEmbedding"
    return is_module or checkpoint.config.get_str("model_type", "") == "model2vec"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    names, config = checkpoint.tensor_names, checkpoint.config
    is_model2vec = MODEL2VEC in names
    table = MODEL2VEC if is_model2vec else SENTENCE_TRANSFORMERS
    shape = checkpoint.shape(table)
    if len(shape) != 2 or min(shape) < 1:
        raise CheckpointError(f"{checkpoint.folder}: tensor {table} must be (tokens, dim), got {shape}")
    mapping = MAPPING if MAPPING in names else None
    if mapping is not None and len(checkpoint.shape(mapping)) != 1:
        raise CheckpointError(
            f"{checkpoint.folder}: tensor {mapping} must be (tokens,), got {checkpoint.shape(mapping)}"
        )
    vocab_size = shape[0] if mapping is None else checkpoint.shape(mapping)[0]
    spec = ModelSpec(
        family="static",
        hidden_size=read_size(config, "hidden_dim", shape[1]) if is_model2vec else shape[1],
        num_heads=1,
        head_dim=shape[1],
        intermediate_size=shape[1],
        vocab_size=vocab_size,
        max_tokens=MAX_TOKENS,
        layers=(),
        norm="layer_norm",
        norm_eps=1e-12,
        activation="gelu",
        static=StaticSpec(shape[0], drops_unknown=is_model2vec, cuts_characters=is_model2vec),
        default_max_tokens=_longest(checkpoint) if is_model2vec else None,
        default_normalize=is_model2vec and config.get_bool("normalize", False),
    )
    weights = WEIGHTS if WEIGHTS in names else None
    return spec, WeightMap(table, (), word_mapping=mapping, word_weights=weights)


def _longest(checkpoint: Checkpoint) -> int | None:
    """The config's own limit; null stands for none."""
    config = checkpoint.config
    if "max_length" in config and config["max_length"] is None:
        return None
    return min(read_size(config, "max_length", MODEL2VEC_TOKENS), MAX_TOKENS)


STATIC: Final = Family("static", "static embeddings (model2vec and potion, StaticEmbedding)", _matches, _describe)
