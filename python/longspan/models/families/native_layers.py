"""The tensor names that transformers' own classes give post-norm encoders with RoPE: GTE, NomicBERT, Jina v3.

transformers 5 reads the published names into these, and turns them back when it saves; a state dict that was written by
other means keeps them. The maths is the same.
"""

from __future__ import annotations

from collections.abc import Collection

from longspan.models.families.family import linear_map, norm_map
from longspan.models.spec import LayerMap


def has_native_layers(names: Collection[str], prefix: str) -> bool:
    """Whether the layers under `prefix` have transformers' names."""
    return f"{prefix}layers.0.self_attn.q_proj.weight" in names


def native_layer(
    at: str, *, up: tuple[str, ...], down: str, attention_bias: bool, up_bias: bool, down_bias: bool
) -> LayerMap:
    """The layer at `at`; `up` and `down` are the MLP's own names of its products, of a gated one both halves."""
    return LayerMap(
        qkv=linear_map(*(f"{at}.self_attn.{part}_proj" for part in "qkv"), bias=attention_bias),
        attention_out=linear_map(f"{at}.self_attn.o_proj", bias=attention_bias),
        attention_norm=norm_map(f"{at}.post_attention_layernorm", bias=True),
        up=linear_map(*(f"{at}.mlp.{part}" for part in up), bias=up_bias),
        down=linear_map(f"{at}.mlp.{down}", bias=down_bias),
        mlp_norm=norm_map(f"{at}.post_mlp_layernorm", bias=True),
    )
