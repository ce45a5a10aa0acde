"""NomicBERT in the published layout: nomic-embed-text-v1 and -v1.5, CodeRankEmbed.

BERT with RoPE in place of a position table and a gated MLP, without biases but for the norms'. Its config has GPT-2's
keys. Not the mixture of experts of nomic-embed-text-v2. Source: arXiv:2402.01613.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models.families.family import (
    Family,
    check_rotary_dim,
    linear_map,
    norm_map,
    read_head_dim,
    read_num_layers,
    read_positive,
    read_size,
    require,
)
from longspan.models.spec import LayerMap, LayerSpec, ModelSpec, Rotary, WeightMap

FAMILY: Final = "NomicBERT"


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "nomic_bert"


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, FAMILY, num_experts=None, moe_every_n_layers=None)
    # The base that grows beyond the trained length when this is set is not known from a primary source.
    require(config, FAMILY, rotary_scaling_factor=None, rotary_emb_scale_base=None, rotary_emb_interleaved=False)
    require(config, FAMILY, activation_function="swiglu", causal=False, prenorm=False, parallel_block=False)
    require(config, FAMILY, qkv_proj_bias=False, mlp_fc1_bias=False, mlp_fc2_bias=False, use_rms_norm=False)
    require(config, FAMILY, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)
    hidden_size = read_size(config, "n_embd")
    num_heads = read_size(config, "n_head")
    head_dim = read_head_dim(config, hidden_size, num_heads, keys=("n_embd", "n_head"))
    turned = check_rotary_dim(config, int(head_dim * read_positive(config, "rotary_emb_fraction", 1.0)), head_dim)
    rotary = Rotary(read_positive(config, "rotary_emb_base"), turned)
    spec = ModelSpec(
        family=FAMILY,
        hidden_size=hidden_size,
        layers=(LayerSpec(rotary),) * read_num_layers(config, "n_layer", names),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "n_inner"),
        vocab_size=read_size(config, "vocab_size"),
        token_types=read_size(config, "type_vocab_size"),
        max_tokens=read_size(config, "n_positions"),
        norm="layer_norm",
        norm_eps=read_positive(config, "layer_norm_epsilon", 1e-12),
        activation="silu",
        gate="second",
    )
    return spec, _weight_map(spec)


def _weight_map(spec: ModelSpec) -> WeightMap:
    def layer(index: int) -> LayerMap:
        at = f"encoder.layers.{index}"
        return LayerMap(
            qkv=linear_map(f"{at}.attn.Wqkv", bias=False),
            attention_out=linear_map(f"{at}.attn.out_proj", bias=False),
            attention_norm=norm_map(f"{at}.norm1", bias=True),
            up=linear_map(f"{at}.mlp.fc11", f"{at}.mlp.fc12", bias=False),
            down=linear_map(f"{at}.mlp.fc2", bias=False),
            mlp_norm=norm_map(f"{at}.norm2", bias=True),
        )

    return WeightMap(
        word_embeddings="embeddings.word_embeddings.weight",
        token_type_embeddings="embeddings.token_type_embeddings.weight",
        embedding_norm=norm_map("emb_ln", bias=True),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
    )


NOMIC_BERT: Final = Family(FAMILY, "NomicBERT v1 and v1.5 (nomic-embed-text)", _matches, _describe)
