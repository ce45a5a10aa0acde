"""DistilBERT: msmarco-distilbert, distiluse, and the document side of sparse models.

BERT's layers under names of their own, without token types; the table of positions is learned or holds sines, and is
read either way. Source: arXiv:1910.01108.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models.families.family import (
    Family,
    find_prefix,
    linear_map,
    norm_map,
    read_activation,
    read_head_dim,
    read_num_layers,
    read_size,
)
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, WeightMap

NORM_EPS: Final = 1e-12  # the class's own; the config has no key for it
# Heads of the masked language model, of classifiers and of question answering.
UNUSED: Final = ("vocab_*", "pre_classifier.*", "classifier.*", "qa_outputs.*", "embeddings.position_ids")


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "distilbert"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    hidden_size = read_size(config, "dim")
    num_heads = read_size(config, "n_heads")
    spec = ModelSpec(
        family="DistilBERT",
        hidden_size=hidden_size,
        layers=(LayerSpec(),) * read_num_layers(config, "n_layers", names),
        num_heads=num_heads,
        head_dim=read_head_dim(config, hidden_size, num_heads, keys=("dim", "n_heads")),
        intermediate_size=read_size(config, "hidden_dim"),
        vocab_size=read_size(config, "vocab_size"),
        max_tokens=read_size(config, "max_position_embeddings"),
        position_offset=0,
        norm="layer_norm",
        norm_eps=NORM_EPS,
        activation=read_activation(config, "activation"),
    )
    return spec, _weight_map(names, spec)


def _weight_map(names: tuple[str, ...], spec: ModelSpec) -> WeightMap:
    prefix = find_prefix(names, "embeddings.word_embeddings.weight", ("", "distilbert."))

    def layer(index: int) -> LayerMap:
        at = f"{prefix}transformer.layer.{index}"
        return LayerMap(
            qkv=linear_map(*(f"{at}.attention.{part}_lin" for part in "qkv"), bias=True),
            attention_out=linear_map(f"{at}.attention.out_lin", bias=True),
            attention_norm=norm_map(f"{at}.sa_layer_norm", bias=True),
            up=linear_map(f"{at}.ffn.lin1", bias=True),
            down=linear_map(f"{at}.ffn.lin2", bias=True),
            mlp_norm=norm_map(f"{at}.output_layer_norm", bias=True),
        )

    return WeightMap(
        word_embeddings=f"{prefix}embeddings.word_embeddings.weight",
        position_embeddings=f"{prefix}embeddings.position_embeddings.weight",
        embedding_norm=norm_map(f"{prefix}embeddings.LayerNorm", bias=True),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        unused=UNUSED + tuple(prefix + pattern for pattern in UNUSED),
    )


DISTILBERT: Final = Family("DistilBERT", "DistilBERT", _matches, _describe)
