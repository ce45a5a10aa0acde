"""The towers of jina-embeddings-v5-omni: Qwen3-VL's vision encoder and Qwen2.5-Omni's audio encoder, each with a
connector for every task.

Vision: pre-norm layers with LayerNorm and biases, RoPE by row and column of the patches, a table of learned places that
is stretched over the image, attention within one pair of frames, and four patches joined to a token. Audio: two
convolutions, chunks of two seconds with sinusoids of their own, and pairs of rows pooled to a token.
Source: arXiv:2605.08384, arXiv:2511.21631 (Qwen3-VL), arXiv:2503.20215 (Qwen2.5-Omni).
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.audio_spec import StemSpec
from longspan.models.families.family import (
    find_prefix,
    linear_map,
    norm_map,
    read_activation,
    read_choice,
    read_head_dim,
    read_num_layers,
    read_size,
    require,
)
from longspan.models.families.omni_inputs import image_pixels, sound_mel, video_clip
from longspan.models.families.vision import VISION_THETA
from longspan.models.spec import (
    AudioSpec,
    LayerMap,
    LayerSpec,
    LinearMap,
    MergerMap,
    ModelSpec,
    PooledMap,
    Rotary,
    VisionSpec,
    WeightMap,
)
from longspan.models.vision_spec import PatchSpec

FAMILY: Final = "jina-embeddings-v5-omni"
VISION_PREFIXES: Final = ("visual.", "vision_tower.", "model.visual.", "model.vision_tower.")
AUDIO_PREFIXES: Final = ("audio_tower.", "model.audio_tower.")
CONNECTOR_PREFIXES: Final = ("", "model.")
# `modality` of the config: whether images, and whether sounds are read.
READS: Final = {"omni": (True, True), "text": (False, False), "vision": (True, False), "audio": (False, True)}
# All that is of towers and their connectors, under whichever wrapper: unused where the config leaves a tower out.
OF_VISION: Final = ("*visual.*", "*vision_tower.*", "*mergers.*", "*merger.*")
OF_AUDIO: Final = ("*audio_tower.*", "*audio_projectors.*", "*audio_projector.*")
# Of an audio encoder that was made to speak, and its table of sinusoids, which old files store.
AUDIO_UNUSED: Final = ("audio_bos_eos_token.*", "positional_embedding.*")


def with_towers(checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap) -> tuple[ModelSpec, WeightMap]:
    """The text side, its tasks known, with the towers that the config's `modality` names and their connectors: one for
    each of `spec.tasks`, or one for all in a repository that has its task merged."""
    sees, listens = read_choice(checkpoint.config, "modality", "omni", READS)
    unused = names.unused
    if sees:
        vision, tower = _vision(checkpoint, spec)
        spec, names = replace(spec, vision=vision), replace(names, tower=tower)
        unused = (*unused, *tower.unused)
    else:
        unused = (*unused, *OF_VISION)
    if listens:
        audio, tower = _audio(checkpoint, spec)
        spec, names = replace(spec, audio=audio), replace(names, audio=tower)
        unused = (*unused, *tower.unused)
    else:
        unused = (*unused, *OF_AUDIO)
    return spec, replace(names, unused=unused)


def _vision(checkpoint: Checkpoint, spec: ModelSpec) -> tuple[VisionSpec, WeightMap]:
    names = checkpoint.tensor_names
    tower = vision_tower_spec(checkpoint.config.get_object("vision_config"), names)
    prefix = find_prefix(names, "patch_embed.proj.weight", VISION_PREFIXES)
    merged = (f"{prefix}merger", "merger", "model.merger")  # small's repositories of one task, nano's
    mergers = tuple(
        MergerMap(
            norm_map(f"{at}.norm", bias=True),
            linear_map(f"{at}.linear_fc1", bias=True),
            linear_map(f"{at}.linear_fc2", bias=True),
        )
        for at in _connectors(names, spec, "mergers", "norm.weight", merged)
    )
    assert tower.patches is not None
    vision = VisionSpec(tower, image_pixels(checkpoint, tower.patches), clip=video_clip(checkpoint, tower.patches))
    return vision, vision_tower_weight_map(tower, prefix, mergers)


def vision_tower_spec(config: JsonObject, names: Collection[str]) -> ModelSpec:
    """The tower of a `vision_config`. Its `out_hidden_size` need not be what the connectors give."""
    require(config, FAMILY, in_channels=3, hidden_act="gelu_pytorch_tanh")
    if config.get_list("deepstack_visual_indexes", []):
        got = reprlib.repr(config.get("deepstack_visual_indexes"))
        raise CheckpointError(
            f"{config.source}: 'deepstack_visual_indexes' must be empty, got {got}; {FAMILY} is supported so only"
        )
    width, num_heads = read_size(config, "hidden_size"), read_size(config, "num_heads")
    head_dim = read_head_dim(config, width, num_heads, keys=("hidden_size", "num_heads"))
    if head_dim % 4:
        raise CheckpointError(f"{config.source}: a head must have a multiple of 4 values, got {head_dim}")
    positions = read_size(config, "num_position_embeddings", 2304)
    places = math.isqrt(positions)
    if places * places != positions:
        raise CheckpointError(f"{config.source}: 'num_position_embeddings' must be a square, got {positions}")
    sections = (head_dim // 4, head_dim // 4)
    rotary = Rotary(VISION_THETA, head_dim, sections=sections, has_own_frequencies=True)
    return ModelSpec(
        family=f"{FAMILY} vision tower",
        hidden_size=width,
        layers=(LayerSpec(rotary),) * read_num_layers(config, "depth", tuple(names)),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=0,
        max_tokens=positions,
        position_offset=0,
        norm="layer_norm",
        norm_eps=1e-6,
        activation=read_activation(config, "hidden_act", "gelu_pytorch_tanh"),
        is_prenorm=True,
        patches=PatchSpec(
            read_size(config, "patch_size", 16),
            read_size(config, "temporal_patch_size", 2),
            read_size(config, "spatial_merge_size", 2),
            places=places,
        ),
    )


def vision_tower_weight_map(spec: ModelSpec, prefix: str, mergers: tuple[MergerMap, ...]) -> WeightMap:
    """Its tensors, under `prefix`, and its connectors'."""

    def layer(index: int) -> LayerMap:
        at = f"{prefix}blocks.{index}"
        return LayerMap(
            qkv=linear_map(f"{at}.attn.qkv", bias=True),
            attention_out=linear_map(f"{at}.attn.proj", bias=True),
            attention_norm=norm_map(f"{at}.norm1", bias=True),
            up=linear_map(f"{at}.mlp.linear_fc1", bias=True),
            down=linear_map(f"{at}.mlp.linear_fc2", bias=True),
            mlp_norm=norm_map(f"{at}.norm2", bias=True),
        )

    return WeightMap(
        word_embeddings="",
        patches=linear_map(f"{prefix}patch_embed.proj", bias=True),
        position_embeddings=f"{prefix}pos_embed.weight",
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        mergers=mergers,
    )


def _audio(checkpoint: Checkpoint, spec: ModelSpec) -> tuple[AudioSpec, WeightMap]:
    names, config = checkpoint.tensor_names, checkpoint.config.get_object("audio_config")
    tower = audio_tower_spec(config, names)
    prefix = find_prefix(names, "conv1.weight", AUDIO_PREFIXES)
    merged = ("audio_projector", "model.audio_projector")
    modules = _connectors(names, spec, "audio_projectors", "weight", merged)
    connectors = tuple(linear_map(module, bias=f"{module}.bias" in names) for module in modules)
    shared = linear_map(f"{prefix}proj", bias=f"{prefix}proj.bias" in names)
    inner = config.get_int("output_dim", _sides(checkpoint, shared)[0] or tower.hidden_size)
    reads = _sides(checkpoint, connectors[0])[1]
    is_shared = reads == inner if inner != tower.hidden_size else shared.weights[0] in names
    pooled = PooledMap(norm_map(f"{prefix}ln_post", bias=True), connectors, shared if is_shared else None)
    unused = tuple(f"{prefix}{pattern}" for pattern in (*AUDIO_UNUSED, *(() if is_shared else ("proj.*",))))
    assert tower.stem is not None
    audio = AudioSpec(tower, sound_mel(checkpoint, tower.stem.num_mels))
    return audio, replace(audio_tower_weight_map(tower, prefix, pooled), unused=unused)


def _sides(checkpoint: Checkpoint, product: LinearMap) -> tuple[int, int] | tuple[None, None]:
    """(out, in) of a product; None of one that is missing, which loading says."""
    [name] = product.weights
    shape = checkpoint.shape(name) if name in checkpoint.tensor_names else ()
    return (shape[0], shape[1]) if len(shape) == 2 else (None, None)


def audio_tower_spec(config: JsonObject, names: Collection[str]) -> ModelSpec:
    """The tower of an `audio_config`; absent keys have Qwen2.5-Omni's values."""
    require(config, FAMILY, activation_function="gelu", scale_embedding=False)
    width, num_heads = read_size(config, "d_model"), read_size(config, "encoder_attention_heads")
    head_dim = read_head_dim(config, width, num_heads, keys=("d_model", "encoder_attention_heads"))
    if width % 2 or width < 4:
        raise CheckpointError(f"{config.source}: 'd_model' must be even and 4 or more, for its sinusoids, got {width}")
    window, places = read_size(config, "n_window", 100), read_size(config, "max_source_positions", 1500)
    if window > places:
        raise CheckpointError(f"{config.source}: 'n_window' must be 'max_source_positions', {places}, or less")
    return ModelSpec(
        family=f"{FAMILY} audio tower",
        hidden_size=width,
        layers=(LayerSpec(),) * read_num_layers(config, "encoder_layers", tuple(names)),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "encoder_ffn_dim"),
        vocab_size=0,
        max_tokens=0,
        norm="layer_norm",
        norm_eps=1e-5,
        activation=read_activation(config, "activation_function", "gelu"),
        is_prenorm=True,
        stem=StemSpec(read_size(config, "num_mel_bins", 128), 2 * window),
    )


def audio_tower_weight_map(spec: ModelSpec, prefix: str, pooled: PooledMap) -> WeightMap:
    """Its tensors, under `prefix`, and its connectors'."""

    def layer(index: int) -> LayerMap:
        at = f"{prefix}layers.{index}"
        q, k, v = (f"{at}.self_attn.{part}_proj" for part in "qkv")
        return LayerMap(
            qkv=LinearMap((f"{q}.weight", f"{k}.weight", f"{v}.weight"), (f"{q}.bias", None, f"{v}.bias")),
            attention_out=linear_map(f"{at}.self_attn.out_proj", bias=True),
            attention_norm=norm_map(f"{at}.self_attn_layer_norm", bias=True),
            up=linear_map(f"{at}.fc1", bias=True),
            down=linear_map(f"{at}.fc2", bias=True),
            mlp_norm=norm_map(f"{at}.final_layer_norm", bias=True),
        )

    return WeightMap(
        word_embeddings="",
        stem=(linear_map(f"{prefix}conv1", bias=True), linear_map(f"{prefix}conv2", bias=True)),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        pooled=pooled,
    )


def _connectors(
    names: Collection[str], spec: ModelSpec, group: str, anchor: str, merged: tuple[str, ...]
) -> tuple[str, ...]:
    """The modules of a tower's connectors: one of `group` for each task, or the one of `merged` that is there."""
    tasks = [task.replace("-", "_") for task in spec.tasks.names]
    if not tasks:
        return (next((module for module in merged if f"{module}.{anchor}" in names), merged[0]),)
    prefix = find_prefix(names, f"{group}.{tasks[0]}.{anchor}", CONNECTOR_PREFIXES)
    return tuple(f"{prefix}{group}.{task}" for task in tasks)
