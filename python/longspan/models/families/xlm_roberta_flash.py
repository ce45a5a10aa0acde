"""XLM-RoBERTa with RoPE, in the layout of Jina's flash-attention code: jina-embeddings-v3, the backbone of
jina-colbert-v2, jina-clip-v2 (whose images have a tower of their own: `vision.py`); and with absolute positions
instead, jina-reranker-v2.

Post-norm layers with biases everywhere, one matrix for q, k and v. Files with adapters keep every product's and table's
own weights at `….parametrizations.weight.original`, and all adapters of it, stacked, at `….0.lora_A` and `….0.lora_B`
beside it. Without a task v3 runs on its own weights alone; jina-clip-v2 always on its one adapter.
Source: arXiv:2409.10173, arXiv:2412.08802.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    Family,
    check_rotary_dim,
    find_prefix,
    norm_map,
    read_activation,
    read_choice,
    read_dims,
    read_head_dim,
    read_names,
    read_num_layers,
    read_positive,
    read_size,
    read_texts,
    require,
)
from longspan.models.families.native_layers import has_native_layers, native_layer
from longspan.models.families.rope import read_rotary
from longspan.models.families.vision import EVA_UNUSED, clip_pixels, eva_spec, eva_weight_map
from longspan.models.spec import (
    LayerMap,
    LayerSpec,
    LinearMap,
    LoraMap,
    ModelSpec,
    PoolingMode,
    Rotary,
    TaskSpec,
    VisionSpec,
    WeightMap,
)
from longspan.models.vision_spec import PixelSpec

ORIGINAL: Final = ".parametrizations.weight.original"
LORA_A: Final = ".parametrizations.weight.0.lora_A"
LORA_B: Final = ".parametrizations.weight.0.lora_B"
WORDS: Final = "embeddings.word_embeddings"
TOKEN_TYPES: Final = "embeddings.token_type_embeddings"
POSITIONS: Final = "embeddings.position_embeddings"

NATIVE: Final = "jina_embeddings_v3"  # as transformers saves jina-embeddings-v3, its adapters merged
POOLERS: Final[dict[str, PoolingMode]] = {"mean": "mean", "cls": "cls"}
# The pooler that embeddings do not use, with its adapters, the masked language model's head, ColBERT's projection.
UNUSED: Final = ("pooler.*", "lm_head.*", "linear.*", "embeddings.position_ids")
QUERY_TASK: Final = "retrieval.query"
DOCUMENT_TASK: Final = "retrieval.passage"

CLIP_PREFIX: Final = "text_model.transformer.roberta."
CLIP_TOWER: Final = "vision_model."
CLIP_MAX_TOKENS: Final = 512  # where upstream cuts a text; the positions go further
# jina-clip-v2 takes its text tower's shape from the config of jina-embeddings-v3, which is not among its files.
V3_CONFIG: Final[dict[str, object]] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "vocab_size": 250002,
    "type_vocab_size": 1,
    "max_position_embeddings": 8194,
    "position_embedding_type": "rotary",
    "rotary_emb_base": 20000.0,
}


def _matches(checkpoint: Checkpoint) -> bool:
    """By the tensors: v3's config has no model_type, colbert-v2's says "xlm-roberta"; transformers' own config has a
    name of its own."""
    model_type = checkpoint.config.get_str("model_type", "xlm-roberta")
    return model_type == NATIVE or (
        model_type == "xlm-roberta" and any(".mixer.Wqkv." in name for name in checkpoint.tensor_names)
    )


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    names, config = checkpoint.tensor_names, checkpoint.config
    prefix = find_prefix(names, "emb_ln.weight", ("roberta.", ""))
    native_prefix = find_prefix(names, f"{WORDS}.weight", ("roberta.", ""))
    is_native = has_native_layers(names, native_prefix)
    spec = _spec(config, names, family="XLM-RoBERTa with RoPE", default_max_tokens=None)
    spec = replace(spec, matryoshka_dims=read_dims(config, "matryoshka_dimensions", spec.hidden_size))
    if is_native:
        return spec, _native_weight_map(spec, native_prefix)
    if not _is_adapted(names):
        return spec, _weight_map(spec, prefix, UNUSED)
    spec = replace(spec, tasks=_tasks(config), default_prompts=read_texts(config, "task_instructions"))
    return spec, _weight_map(spec, prefix, UNUSED, _lora_kind(config))


def _matches_clip(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") == "jina_clip"


def _describe_clip(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = _clip_text_config(checkpoint), checkpoint.tensor_names
    spec = _spec(config, names, family="jina-clip-v2", default_max_tokens=CLIP_MAX_TOKENS)
    spec = replace(
        spec,
        matryoshka_dims=read_dims(checkpoint.config, "matryoshka_dimensions", spec.hidden_size),
        default_prompts=read_texts(config, "task_instructions"),
    )
    spec, weights = _adapted_clip(checkpoint, config, spec, (*UNUSED, "logit_scale"))
    if not any(name.startswith(CLIP_TOWER) for name in names):  # as those who need texts alone may keep it
        return spec, weights
    tower = eva_spec(checkpoint.config.get_object("vision_config"), names)
    if tower.hidden_size != spec.hidden_size:
        raise CheckpointError(
            f"{checkpoint.config.source}: both towers must have vectors of one size, got {tower.hidden_size} for "
            f"images and {spec.hidden_size} for texts"
        )
    pixels = clip_pixels(checkpoint, tower)
    unused = (*weights.unused, *(CLIP_TOWER + pattern for pattern in EVA_UNUSED))
    return (
        replace(spec, vision=VisionSpec(tower, pixels, usual=(PixelSpec("shortest", pixels.size),))),
        replace(weights, tower=eva_weight_map(tower, CLIP_TOWER), unused=unused),
    )


def _adapted_clip(
    checkpoint: Checkpoint, config: JsonObject, spec: ModelSpec, unused: tuple[str, ...]
) -> tuple[ModelSpec, WeightMap]:
    """The text tower, with its adapters where it has them."""
    if not _is_adapted(checkpoint.tensor_names):
        return spec, _weight_map(spec, CLIP_PREFIX, unused)
    text = checkpoint.config.get_object("text_config")
    default = text.get_str("default_lora_task", None)
    tasks = replace(_tasks(config), default=default)
    if default is not None and default not in tasks.names:
        known = ", ".join(tasks.names)
        raise CheckpointError(f"{text.source}: 'default_lora_task' must be one of {known}, got {default!r}")
    return replace(spec, tasks=tasks), _weight_map(spec, CLIP_PREFIX, unused, _lora_kind(config))


def _is_adapted(names: tuple[str, ...]) -> bool:
    """Whether there are adapters: on every matrix then, each of which is named otherwise."""
    return any(ORIGINAL in name and "pooler." not in name for name in names)


def _tasks(config: JsonObject) -> TaskSpec:
    names = read_names(config, "lora_adaptations")
    return TaskSpec(
        names,
        query=QUERY_TASK if QUERY_TASK in names else None,
        document=DOCUMENT_TASK if DOCUMENT_TASK in names else None,
    )


def _lora_kind(config: JsonObject) -> tuple[int, float]:
    """Rank and scaling of every adapter."""
    rank = read_size(config, "lora_rank")
    return rank, read_positive(config, "lora_alpha") / rank


def _clip_text_config(checkpoint: Checkpoint) -> JsonObject:
    """The nested config, from the folder that `hf_model_name_or_path` names if it is inside the checkpoint."""
    text = checkpoint.config.get_object("text_config")
    require(text, "jina-clip-v2", pooler_type="mean_pooler", proj_type=None)
    path = text.get_path("hf_model_name_or_path", checkpoint.model_folder) / "config.json"
    nested = JsonObject.read(path) if os.path.isfile(path) else JsonObject(V3_CONFIG, text.source)
    overrides = text.get_object("hf_model_config_kwargs", None)
    return JsonObject({**nested, **(overrides or {})}, nested.source)


def _spec(config: JsonObject, names: tuple[str, ...], *, family: str, default_max_tokens: int | None) -> ModelSpec:
    is_native = config.get_str("model_type", "") == NATIVE  # whose config has newer keys, for the same maths
    positions = config.get_str("position_embedding_type", "rotary" if is_native else "absolute")
    if positions not in ("rotary", "absolute"):
        raise CheckpointError(
            f"{config.source}: 'position_embedding_type' must be 'rotary' or 'absolute', got {positions!r}"
        )
    require(config, family, rotary_emb_scale_base=None, pad_vocab_size_multiple=1)
    hidden_size = read_size(config, "hidden_size")
    num_heads = read_size(config, "num_attention_heads")
    head_dim = read_head_dim(config, hidden_size, num_heads)
    max_tokens = read_size(config, "max_position_embeddings")
    rotary, offset = None, None
    if is_native:
        rotary = read_rotary(config, head_dim, head_dim, positions=max_tokens)
    elif positions == "rotary":
        rotary = Rotary(
            theta=read_positive(config, "rotary_emb_base", 10000.0),
            dim=check_rotary_dim(config, config.get_int("rotary_emb_dim", head_dim), head_dim),
            interleaved=config.get_bool("rotary_emb_interleaved", False),
        )
    else:
        offset = config.get_int("pad_token_id", 1) + 1
        if not 0 <= offset < max_tokens:
            raise CheckpointError(f"{config.source}: 'max_position_embeddings' leaves no position after {offset}")
        max_tokens -= offset
    return ModelSpec(
        family=family,
        hidden_size=hidden_size,
        layers=(LayerSpec(rotary),) * read_num_layers(config, "num_hidden_layers", names),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=read_size(config, "vocab_size"),
        token_types=read_size(config, "type_vocab_size"),
        max_tokens=max_tokens,
        position_offset=offset,
        default_max_tokens=default_max_tokens,
        norm="layer_norm",
        norm_eps=read_positive(config, "layer_norm_eps", 1e-5),
        activation=read_activation(config, "hidden_act"),
        default_pooling=read_choice(config, "emb_pooler", "mean", POOLERS),
        default_normalize=True,
    )


def _weight_map(
    spec: ModelSpec, prefix: str, unused: tuple[str, ...], lora_kind: tuple[int, float] | None = None
) -> WeightMap:
    """The tensors; `lora_kind`, rank and scaling, where every matrix has adapters."""

    def weight(module: str) -> str:
        """Where the module's own weights lie."""
        return f"{prefix}{module}.weight" if lora_kind is None else prefix + module + ORIGINAL

    def lora(module: str) -> LoraMap | None:
        return None if lora_kind is None else LoraMap(prefix + module + LORA_A, prefix + module + LORA_B, *lora_kind)

    def linear(module: str) -> LinearMap:
        return LinearMap((weight(module),), (f"{prefix}{module}.bias",), lora(module))

    def layer(index: int) -> LayerMap:
        at = f"encoder.layers.{index}"
        return LayerMap(
            qkv=linear(f"{at}.mixer.Wqkv"),
            attention_out=linear(f"{at}.mixer.out_proj"),
            attention_norm=norm_map(f"{prefix}{at}.norm1", bias=True),
            up=linear(f"{at}.mlp.fc1"),
            down=linear(f"{at}.mlp.fc2"),
            mlp_norm=norm_map(f"{prefix}{at}.norm2", bias=True),
        )

    return WeightMap(
        word_embeddings=weight(WORDS),
        word_lora=lora(WORDS),
        position_embeddings=None if spec.position_offset is None else weight(POSITIONS),
        token_type_embeddings=weight(TOKEN_TYPES),
        token_type_lora=lora(TOKEN_TYPES),
        embedding_norm=norm_map(f"{prefix}emb_ln", bias=True),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        unused=unused + tuple(prefix + pattern for pattern in UNUSED),
    )


def _native_weight_map(spec: ModelSpec, prefix: str) -> WeightMap:
    """The tensors under transformers' own names, where there are no adapters."""

    def layer(index: int) -> LayerMap:
        at = f"{prefix}layers.{index}"
        return native_layer(at, up=("fc1",), down="fc2", attention_bias=True, up_bias=True, down_bias=True)

    return replace(
        _weight_map(spec, prefix, UNUSED),
        embedding_norm=norm_map(f"{prefix}embeddings.LayerNorm", bias=True),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
    )


XLM_ROBERTA_FLASH: Final = Family(
    "XLM-RoBERTa with RoPE",
    "XLM-RoBERTa with RoPE in Jina's layout (jina-embeddings-v3, jina-colbert-v2)",
    _matches,
    _describe,
)
JINA_CLIP: Final = Family("jina-clip-v2", "jina-clip-v2, texts and images", _matches_clip, _describe_clip)
