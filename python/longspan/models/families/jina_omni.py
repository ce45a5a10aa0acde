"""jina-embeddings-v5-omni: the text models of v5 with a vision and an audio encoder before them, frozen all three.

small has a Qwen3 inside, nano a EuroBERT: texts have the vectors of v5-text, to the bit. What differs between tasks
beside the adapters are the connectors behind the towers and the embeddings of a few tokens, those around and for media.
The towers' half is in `omni_towers.py`. Media tokens have ordinary consecutive places: there is no m-rope here.
Source: arXiv:2605.08384.
"""

from __future__ import annotations

import reprlib
from dataclasses import replace
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import Family, read_dims, read_head_dim, read_size, require
from longspan.models.families.llama import llama_spec, llama_weight_map
from longspan.models.families.omni_towers import with_towers
from longspan.models.families.qwen import adapted_by_peft
from longspan.models.sequence_spec import MediaTokens, SequenceSpec
from longspan.models.spec import ModelSpec, WeightMap

JINA_OMNI: Final = "jina_embeddings_v5_omni"  # the model_type of both sizes with all tasks
MERGED: Final = ("qwen3_vl_audio", "llava_eurobert_audio")  # those of one task, small and nano
PREFIX: Final = "language_model."
SMALL_THETA: Final = 3500000.0  # where small's config names no theta
# What the published configs hold, for those that are silent.
SMALL_IDS: Final = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "audio_token_id": 151669,
    "audio_start_token_id": 151670,
    "audio_end_token_id": 151671,
}


def _matches(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get_str("model_type", "") in (JINA_OMNI, *MERGED)


def _describe(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config = checkpoint.config
    spec, weights = _small_text(checkpoint) if is_small(checkpoint) else _nano_text(checkpoint)
    spec = replace(spec, matryoshka_dims=read_dims(config, "matryoshka_dimensions", spec.hidden_size))
    if config.get("task_names") is None:  # one task, merged
        if config.get_str("model_type", "") == JINA_OMNI:
            raise CheckpointError(f"{config.source}: 'task_names' is missing; it must be a list")
    else:
        spec, weights = _with_tasks(checkpoint, spec, weights)
    return with_towers(checkpoint, replace(spec, sequence=_sequence(checkpoint, spec)), weights)


def is_small(checkpoint: Checkpoint) -> bool:
    """Whether a Qwen3 is inside. CheckpointError, if config and tensors disagree."""
    config = checkpoint.config
    has_norm = f"{PREFIX}layers.0.self_attn.q_norm.weight" in checkpoint.tensor_names
    says_small = config.get("image_token_id") is not None
    if says_small == (config.get("image_token_index") is not None) or says_small != has_norm:
        raise CheckpointError(
            f"{config.source}: 'image_token_id' goes with the tensor {PREFIX}layers.0.self_attn.q_norm.weight (small), "
            f"'image_token_index' with none of it (nano); one of the two is needed"
        )
    return says_small


def _small_text(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config.get_object("text_config"), checkpoint.tensor_names
    require(config, "Qwen3", use_sliding_window=False, is_causal=True, attention_bias=False)
    spec = llama_spec(
        _with_theta(config),
        names,
        family="jina-embeddings-v5-omni-small",
        head_dim=config.get_int("head_dim", 128),
        rope_kinds=("default", "mrope"),  # three equal places a token: plain angles
        causal=True,
        qk_norm="head",
        default_pooling="lasttoken",
        default_normalize=True,
    )
    return spec, llama_weight_map(names, spec, prefixes=(PREFIX,))


def _nano_text(checkpoint: Checkpoint) -> tuple[ModelSpec, WeightMap]:
    config, names = checkpoint.config.get_object("text_config"), checkpoint.tensor_names
    require(config, "EuroBERT", is_decoder=False, is_causal=False, attention_bias=False, mlp_bias=False)
    divided = read_head_dim(config, read_size(config, "hidden_size"), read_size(config, "num_attention_heads"))
    spec = llama_spec(
        config,
        names,
        family="jina-embeddings-v5-omni-nano",
        head_dim=config.get_int("head_dim", divided),
        causal=False,
        default_pooling="lasttoken",
        default_normalize=True,
    )
    return spec, llama_weight_map(names, spec, prefixes=(PREFIX,))


def _with_theta(config: JsonObject) -> JsonObject:
    """The text's config, with upstream's theta where it names none."""
    rope = config.get_object("rope_parameters", None)
    if config.get("rope_theta") is not None or (rope is not None and rope.get("rope_theta") is not None):
        return config
    return JsonObject({**config, "rope_theta": SMALL_THETA}, config.source)


def _with_tasks(checkpoint: Checkpoint, spec: ModelSpec, weights: WeightMap) -> tuple[ModelSpec, WeightMap]:
    """With the adapters, and the embeddings that some tokens have in a task."""
    spec, weights = adapted_by_peft(checkpoint, spec, weights)
    config, names = checkpoint.config, spec.tasks.names
    listed = config.get_list("special_token_ids")
    ids = [token for token in listed if isinstance(token, int) and not isinstance(token, bool)]
    if len(ids) < len(listed) or len(set(ids)) < len(ids) or not all(0 <= token < spec.vocab_size for token in ids):
        raise CheckpointError(
            f"{config.source}: 'special_token_ids' must be different ids below 'vocab_size' {spec.vocab_size}, got "
            f"{reprlib.repr(listed)}"
        )
    rows = tuple(f"task_token_embeddings.{task_key(task)}" for task in names)
    for name in rows:
        if name in checkpoint.tensor_names and checkpoint.shape(name)[:1] != (len(ids),):
            raise CheckpointError(
                f"{config.source}: 'special_token_ids' has {len(ids)} ids, but the tensor {name} has the shape "
                f"{checkpoint.shape(name)}, and needs a row for each"
            )
    return replace(spec, task_tokens=tuple(ids)), replace(weights, task_tokens=rows)


def task_key(task: str) -> str:
    """How tensor names spell a task."""
    return task.replace("-", "_")


def _sequence(checkpoint: Checkpoint, spec: ModelSpec) -> SequenceSpec:
    """How media stand among a text's tokens."""
    config, small = checkpoint.config, is_small(checkpoint)
    named: dict[str, int] = {}

    def token(key: str) -> int:
        number = config.get_int(key, SMALL_IDS[key]) if small else config.get_int(key)
        if not 0 <= number < spec.vocab_size:
            least = f"from 0 to {spec.vocab_size - 1}, below 'vocab_size'"
            raise CheckpointError(f"{config.source}: {key!r} must be {least}, got {number}")
        if number in named.values():
            other = next(name for name, own in named.items() if own == number)
            raise CheckpointError(f"{config.source}: {key!r} must be an id of its own, got {number} as {other!r}")
        named[key] = number
        return number

    audio = MediaTokens(token("audio_token_id"), token("audio_start_token_id"), token("audio_end_token_id"))
    if not small:  # one token for images and video, without markers
        pad = token("image_token_index")
        return SequenceSpec(image=MediaTokens(pad), video=MediaTokens(pad), audio=audio, has_time_stamps=False)
    start, end = token("vision_start_token_id"), token("vision_end_token_id")
    return SequenceSpec(
        image=MediaTokens(token("image_token_id"), start, end),
        video=MediaTokens(token("video_token_id"), start, end),
        audio=audio,
        has_time_stamps=True,
    )


OMNI: Final = Family(
    "jina-embeddings-v5-omni", "jina-embeddings-v5-omni, texts, images, sound and video", _matches, _describe
)
