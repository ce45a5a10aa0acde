"""Qwen decoders as encoders: jina-code-embeddings (Qwen2), jina-embeddings-v5-text-small (Qwen3), jina-embeddings-v4
(Qwen2.5-VL, whose images have a tower of their own: `vision.py`), and others of model_type "qwen2" and "qwen3" whose
attention is causal.

Qwen2 has biases on q, k and v; Qwen3 has none, but norms q and k over each head. On text alone the three axes of
Qwen2.5-VL's positions agree, and its RoPE is the plain one; tokens of an image have a row and a column.
Source: arXiv:2407.10671, arXiv:2505.09388, arXiv:2502.13923.
"""

from __future__ import annotations

import reprlib
from dataclasses import replace
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    Family,
    find_prefix,
    read_dims,
    read_head_dim,
    read_names,
    read_size,
    require,
)
from longspan.models.families.llama import llama_spec, llama_weight_map
from longspan.models.families.vision import area_pixels, qwen_tower_spec, qwen_tower_weight_map
from longspan.models.spec import ModelSpec, PeftSource, TaskSpec, VisionSpec, WeightMap
from longspan.models.vision_spec import MOST_PIXELS, ImageText, PixelSpec

JINA_V5: Final = "jina_embeddings_v5"  # the model_type of both sizes: small is a Qwen3, nano a EuroBERT
V4_MAX_TOKENS: Final = 32768  # jina-embeddings-v4's own limit; its positions go to 128000
# jina-embeddings-v4 has no file of prompts: its code has these, and one of them for all texts of one task.
V4_PROMPTS: Final = (("query", "Query: "), ("passage", "Passage: "))
V4_FIXED_PROMPTS: Final = (("text-matching", "query"),)
RETRIEVAL: Final = "retrieval"
INSTRUCT: Final = "Instruct: "  # Qwen3-Embedding's queries begin so; its first tokenizers added no end token
VISION_PREFIXES: Final = ("model.", "model.language_model.", "")
TOWER_PREFIXES: Final = ("visual.", "model.visual.")
# What jina-embeddings-v4's code puts around an image, and the ids of its three tokens where the config is silent.
V4_IMAGE_TEXT: Final = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"
V4_MOST_PIXELS: Final = (MOST_PIXELS, 602112)  # the processor's own limit, and what v4's file is remembered to say
TOKEN_IDS: Final = {"image_token_id": 151655, "vision_start_token_id": 151652, "vision_end_token_id": 151653}


def is_v5_nano(checkpoint: Checkpoint) -> bool:
    """Of the checkpoints of model_type JINA_V5, those with a EuroBERT inside."""
    config = checkpoint.config
    return not config.get_bool("is_decoder", True) or config.get_int("head_dim", None) is None


def adapted_by_peft(
    checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap, *, shares_file: bool = False
) -> tuple[ModelSpec, WeightMap]:
    """With the adapters of `task_names` that lie in `adapters/`, one folder a task, or one file for all of them."""
    tasks, folder = read_names(checkpoint.config, "task_names"), checkpoint.folder / "adapters"
    retrieval = RETRIEVAL if RETRIEVAL in tasks else None
    sources = tuple(PeftSource(task, folder if shares_file else folder / task, shares_file) for task in tasks)
    task_spec = TaskSpec(tasks, is_required=True, query=retrieval, document=retrieval)
    return replace(spec, tasks=task_spec), replace(names, peft=sources)


def _matches_qwen2(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "qwen2"


def _describe_qwen2(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, "Qwen2", use_sliding_window=False, is_causal=True)
    divided = read_head_dim(config, read_size(config, "hidden_size"), read_size(config, "num_attention_heads"))
    spec = llama_spec(
        config,
        names,
        family="Qwen2",
        head_dim=config.get_int("head_dim", divided),
        causal=True,
        default_pooling="lasttoken",
        default_normalize=True,
    )
    return spec, llama_weight_map(names, spec, has_qkv_bias=True)


def _matches_qwen3(checkpoint: Checkpoint) -> bool:
    model_type = checkpoint.config.get_str("model_type", "")
    return model_type == "qwen3" or (model_type == JINA_V5 and not is_v5_nano(checkpoint))


def _describe_qwen3(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config, checkpoint.tensor_names
    require(config, "Qwen3", use_sliding_window=False, is_causal=True, attention_bias=False)
    spec = llama_spec(
        config,
        names,
        family="Qwen3",
        head_dim=config.get_int("head_dim", 128),
        causal=True,
        qk_norm="head",
        default_pooling="lasttoken",
        default_normalize=True,
    )
    weights = llama_weight_map(names, spec)
    if checkpoint.pooling is not None and any(text.startswith(INSTRUCT) for text in checkpoint.prompts.values()):
        pad = checkpoint.tokenizer_config.get("pad_token")
        spec = replace(spec, end_token=pad if isinstance(pad, str) else None)
    if config.get_str("model_type") == JINA_V5:
        return adapted_by_peft(checkpoint, spec, weights)
    return spec, weights


def _matches_qwen_vl(checkpoint: Checkpoint) -> bool:
    """jina-embeddings-v4's config need not have a model_type; then its text config tells."""
    config = checkpoint.config
    text = config.get_object("text_config", None)
    return config.get_str("model_type", "") == "qwen2_5_vl" or (
        text is not None and text.get_str("model_type", "") == "qwen2_5_vl_text"
    )


def _describe_qwen_vl(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    require(checkpoint.config, "jina-embeddings-v4", single_vector_pool_strategy="mean")
    text = checkpoint.config.get_object("text_config", None)
    config, names = checkpoint.config if text is None else text, checkpoint.tensor_names
    require(config, "Qwen2.5-VL", use_sliding_window=False)
    spec = llama_spec(
        config,
        names,
        family="Qwen2.5-VL",
        head_dim=read_head_dim(config, read_size(config, "hidden_size"), read_size(config, "num_attention_heads")),
        rope_kinds=("default", "mrope"),
        sections=_read_sections(config),
        causal=True,
        default_pooling="mean",
        default_normalize=True,
        max_tokens=V4_MAX_TOKENS,
    )
    unused = ("multi_vector_projector.*",)
    weights = llama_weight_map(names, spec, prefixes=VISION_PREFIXES, has_qkv_bias=True, unused=unused)
    spec, weights = _seeing(checkpoint, spec, weights)
    if checkpoint.config.get("task_names") is None:  # as the repositories that have one task merged
        return spec, weights
    spec, weights = adapted_by_peft(checkpoint, spec, weights, shares_file=True)
    return replace(
        spec,
        tasks=replace(spec.tasks, fixed_prompts=V4_FIXED_PROMPTS),
        default_prompts=V4_PROMPTS,
        default_prompt_name="query",
        matryoshka_dims=read_dims(checkpoint.config, "matryoshka_dims", spec.hidden_size),
    ), weights


def _read_sections(config: JsonObject) -> tuple[int, ...]:
    """How many of RoPE's angles go by time, row and column. `llama_spec` holds them against the head."""
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.get_object(key, None)
        if rope is not None and rope.get("mrope_section") is not None:
            listed = rope.get_list("mrope_section")
            sections = tuple(size for size in listed if isinstance(size, int) and size > 0)
            if len(sections) != 3 or len(listed) != 3:
                raise CheckpointError(f"{rope.source}: 'mrope_section' must be three sizes, got {reprlib.repr(listed)}")
            return sections
    return ()


def _seeing(checkpoint: Checkpoint, spec: ModelSpec, weights: WeightMap) -> tuple[ModelSpec, WeightMap]:
    """With the vision tower, if the checkpoint has one."""
    config, names = checkpoint.config, checkpoint.tensor_names
    prefix = find_prefix(names, "patch_embed.proj.weight", TOWER_PREFIXES)
    if not any(name.startswith(prefix) for name in names):
        return spec, weights
    tower = qwen_tower_spec(config.get_object("vision_config"), names, spec.hidden_size)
    if not spec.layers[0].rotary or not spec.layers[0].rotary.sections:
        raise CheckpointError(f"{config.source}: 'mrope_section' is missing, the places of an image's tokens")
    ids = [config.get_int(key, default) for key, default in TOKEN_IDS.items()]
    if not all(0 <= token < spec.vocab_size for token in ids):
        raise CheckpointError(f"{config.source}: {', '.join(TOKEN_IDS)} must be below 'vocab_size', got {ids}")
    text, usual = ImageText(V4_IMAGE_TEXT, *ids), tuple(PixelSpec("area", most_pixels=most) for most in V4_MOST_PIXELS)
    vision = VisionSpec(tower, area_pixels(checkpoint, tower), text, usual=usual)
    return replace(spec, vision=vision), replace(weights, tower=qwen_tower_weight_map(tower, prefix))


QWEN2: Final = Family("Qwen2", "Qwen2 (jina-code-embeddings)", _matches_qwen2, _describe_qwen2)
QWEN3: Final = Family("Qwen3", "Qwen3 (jina-embeddings-v5-text-small)", _matches_qwen3, _describe_qwen3)
QWEN_VL: Final = Family(
    "Qwen2.5-VL", "Qwen2.5-VL (jina-embeddings-v4), texts and images", _matches_qwen_vl, _describe_qwen_vl
)
