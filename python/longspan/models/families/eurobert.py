"""EuroBERT: jina-embeddings-v5-text-nano and others of model_type "eurobert".

Llama's layers with every token seeing every other. Source: arXiv:2503.05500.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models.families.family import Family, read_head_dim, read_size, require
from longspan.models.families.llama import llama_spec, llama_weight_map
from longspan.models.families.qwen import JINA_V5, adapted_by_peft, is_v5_nano
from longspan.models.spec import ModelSpec, WeightMap


def _matches(checkpoint: Checkpoint) -> bool:
    model_type = checkpoint.config.get_str("model_type", "")
    return model_type == "eurobert" or (model_type == JINA_V5 and is_v5_nano(checkpoint))


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, "EuroBERT", is_decoder=False, attention_bias=False, mlp_bias=False)
    divided = read_head_dim(config, read_size(config, "hidden_size"), read_size(config, "num_attention_heads"))
    is_v5 = config.get_str("model_type") == JINA_V5
    spec = llama_spec(
        config,
        names,
        family="EuroBERT",
        head_dim=config.get_int("head_dim", divided),
        causal=False,
        default_pooling="lasttoken" if is_v5 else "mean",
        default_normalize=is_v5,
    )
    weights = llama_weight_map(names, spec)
    return adapted_by_peft(checkpoint, spec, weights) if is_v5 else (spec, weights)


EUROBERT: Final = Family("EuroBERT", "EuroBERT (jina-embeddings-v5-text-nano)", _matches, _describe)
