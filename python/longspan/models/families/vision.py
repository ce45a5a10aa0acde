"""The vision towers beside text models: EVA02 (jina-clip-v2) and Qwen2.5-VL's (jina-embeddings-v4), and what their
preprocessors' settings say.

EVA02: pre-norm layers with a norm before each last product too, SwiGLU, RoPE by row and column of the patches, a class
token whose state is the image's vector. Qwen2.5-VL: pre-norm layers with RMS norms, attention within windows in most
of them, RoPE by row and column, and four patches joined to a token of the language side.
Source: arXiv:2303.11331 (EVA02), arXiv:2412.08802 (jina-clip-v2), arXiv:2502.13923 (Qwen2.5-VL).
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import (
    linear_map,
    norm_map,
    read_activation,
    read_choice,
    read_head_dim,
    read_num_layers,
    read_positive,
    read_size,
    require,
)
from longspan.models.spec import LayerMap, LayerSpec, LinearMap, MergerMap, ModelSpec, Rotary, WeightMap
from longspan.models.vision_spec import (
    CLIP_MEAN,
    CLIP_STD,
    PatchSpec,
    PixelSpec,
    Resample,
    Resize,
)

VISION_THETA: Final = 10000.0
EVA_UNUSED: Final = ("rope.*", "blocks.*.attn.rope.*")  # RoPE's tables, which old files store
RESIZES: Final[dict[str, Resize]] = {"shortest": "shortest", "longest": "longest", "squash": "squash"}
RESAMPLES: Final[dict[str, Resample]] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
}


def eva_spec(config: JsonObject, names: Collection[str]) -> ModelSpec:
    """The tower of a jina-clip's `vision_config`."""
    supported = {"subln": True, "naive_swiglu": True, "rope_embeddings": True, "qkv_bias": True, "intp_freq": True}
    require(config, "EVA02", **supported, post_norm=False, ls_init_value=None, proj_type=None)
    width, head_width = read_size(config, "width"), read_size(config, "head_width", 64)
    if width % head_width or head_width % 4:
        raise CheckpointError(
            f"{config.source}: 'head_width' must be a multiple of 4 that divides 'width' {width}, got {head_width}"
        )
    if config.get_int("embed_dim", width) != width:
        raise CheckpointError(f"{config.source}: 'embed_dim' must be 'width', {width}: the tower has no projection")
    size, image_size = read_size(config, "patch_size", 14), read_size(config, "image_size")
    grid = image_size // size
    if grid < 1:
        raise CheckpointError(f"{config.source}: 'image_size' {image_size} holds no patch of {size} pixels")
    sections = (head_width // 4, head_width // 4)
    rotary = Rotary(VISION_THETA, head_width, interleaved=True, sections=sections, has_own_frequencies=True)
    patches = PatchSpec(
        size,
        has_class_token=True,
        grid=grid,
        reach=float(read_size(config, "pt_hw_seq_len", 16)),
    )
    return ModelSpec(
        family="EVA02",
        hidden_size=width,
        layers=(LayerSpec(rotary),) * read_num_layers(config, "layers", tuple(names)),
        num_heads=width // head_width,
        head_dim=head_width,
        intermediate_size=int(width * read_positive(config, "mlp_ratio", 2.6667)),
        vocab_size=0,
        max_tokens=grid * grid + 1,
        position_offset=0,
        norm="layer_norm",
        norm_eps=1e-6,
        activation="silu",
        gate="first",
        is_prenorm=True,
        default_pooling="cls",
        patches=patches,
    )


def eva_weight_map(spec: ModelSpec, prefix: str) -> WeightMap:
    """Its tensors, under `prefix`."""

    def layer(index: int) -> LayerMap:
        at = f"{prefix}blocks.{index}"
        weights = tuple(f"{at}.attn.{part}_proj.weight" for part in "qkv")
        return LayerMap(
            qkv=LinearMap(weights, (f"{at}.attn.q_bias", None, f"{at}.attn.v_bias")),
            attention_norm=norm_map(f"{at}.norm1", bias=True),
            context_norm=norm_map(f"{at}.attn.inner_attn_ln", bias=True),
            attention_out=linear_map(f"{at}.attn.proj", bias=True),
            mlp_norm=norm_map(f"{at}.norm2", bias=True),
            up=linear_map(f"{at}.mlp.w1", f"{at}.mlp.w2", bias=True),
            inner_norm=norm_map(f"{at}.mlp.ffn_ln", bias=True),
            down=linear_map(f"{at}.mlp.w3", bias=True),
        )

    return WeightMap(
        word_embeddings="",
        patches=linear_map(f"{prefix}patch_embed.proj", bias=True),
        class_token=f"{prefix}cls_token",
        position_embeddings=f"{prefix}pos_embed",
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        final_norm=norm_map(f"{prefix}norm", bias=True),
    )


def clip_pixels(checkpoint: Checkpoint, spec: ModelSpec) -> PixelSpec:
    """What jina-clip's preprocessor_config.json says; absent keys have its class's defaults."""
    config = JsonObject.read_optional(checkpoint.model_folder / "preprocessor_config.json")
    assert spec.patches is not None and spec.patches.grid is not None
    size = config.get("size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    listed = checkpoint.config.get_object("vision_config").get_int("image_size")
    if size is not None and size != listed:
        raise CheckpointError(
            f"{config.source}: 'size' must be the tower's 'image_size', {listed}, got {reprlib.repr(size)}"
        )
    fill = config.get_int("fill_color", 0)
    if not 0 <= fill <= 255:
        raise CheckpointError(f"{config.source}: 'fill_color' must be from 0 to 255, got {fill}")
    return PixelSpec(
        resize=read_choice(config, "resize_mode", "shortest", RESIZES),
        size=listed,
        fill=fill,
        resample=read_choice(config, "interpolation", "bicubic", RESAMPLES),
        mean=read_channels(config, ("mean", "image_mean"), CLIP_MEAN),
        std=read_channels(config, ("std", "image_std"), CLIP_STD, is_scale=True),
    )


def qwen_tower_spec(config: JsonObject, names: Collection[str], hidden_size: int) -> ModelSpec:
    """The tower of a Qwen2.5-VL's `vision_config`; `hidden_size` is the language side's."""
    for key in ("in_channels", "in_chans"):
        require(config, "Qwen2.5-VL", **{key: 3})
    if config.get_int("out_hidden_size", hidden_size) != hidden_size:
        raise CheckpointError(f"{config.source}: 'out_hidden_size' must be the text's 'hidden_size', {hidden_size}")
    width, num_heads = read_size(config, "hidden_size"), read_size(config, "num_heads")
    head_dim = read_head_dim(config, width, num_heads, keys=("hidden_size", "num_heads"))
    if head_dim % 4:
        raise CheckpointError(f"{config.source}: a head must have a multiple of 4 values, got {head_dim}")
    size, merge = read_size(config, "patch_size", 14), read_size(config, "spatial_merge_size", 2)
    window = read_size(config, "window_size", 112) // (size * merge)
    if window < 1:
        raise CheckpointError(f"{config.source}: 'window_size' holds no cell of {merge} x {merge} patches")
    depth = read_num_layers(config, "depth", tuple(names))
    whole = config.get_list("fullatt_block_indexes")
    if not all(isinstance(index, int) and 0 <= index < depth for index in whole):
        raise CheckpointError(
            f"{config.source}: 'fullatt_block_indexes' must be from 0 to {depth - 1}, got {reprlib.repr(whole)}"
        )
    sections = (head_dim // 4, head_dim // 4)
    rotary = Rotary(VISION_THETA, head_dim, sections=sections, has_own_frequencies=True)
    return ModelSpec(
        family="Qwen2.5-VL vision tower",
        hidden_size=width,
        layers=tuple(LayerSpec(rotary, is_windowed=index not in whole) for index in range(depth)),
        num_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=read_size(config, "intermediate_size"),
        vocab_size=0,
        max_tokens=0,
        norm="rms_norm",
        norm_eps=1e-6,
        activation=read_activation(config, "hidden_act"),
        gate="first",
        is_prenorm=True,
        patches=PatchSpec(size, read_size(config, "temporal_patch_size", 2), merge, window),
    )


def qwen_tower_weight_map(spec: ModelSpec, prefix: str) -> WeightMap:
    """Its tensors, under `prefix`."""

    def layer(index: int) -> LayerMap:
        at = f"{prefix}blocks.{index}"
        return LayerMap(
            qkv=linear_map(f"{at}.attn.qkv", bias=True),
            attention_out=linear_map(f"{at}.attn.proj", bias=True),
            attention_norm=norm_map(f"{at}.norm1", bias=False),
            up=linear_map(f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj", bias=True),
            down=linear_map(f"{at}.mlp.down_proj", bias=True),
            mlp_norm=norm_map(f"{at}.norm2", bias=False),
        )

    return WeightMap(
        word_embeddings="",
        patches=linear_map(f"{prefix}patch_embed.proj", bias=False),
        layers=tuple(layer(index) for index in range(spec.num_layers)),
        mergers=(
            MergerMap(
                norm_map(f"{prefix}merger.ln_q", bias=False),
                linear_map(f"{prefix}merger.mlp.0", bias=True),
                linear_map(f"{prefix}merger.mlp.2", bias=True),
            ),
        ),
    )


def area_pixels(checkpoint: Checkpoint, spec: ModelSpec) -> PixelSpec:
    """What a Qwen2-VL processor's preprocessor_config.json says; absent keys have its class's defaults."""
    config = JsonObject.read_optional(checkpoint.model_folder / "preprocessor_config.json")
    assert spec.patches is not None
    return read_area(config, spec.patches, PixelSpec("area"))


def read_area(
    config: JsonObject, patches: PatchSpec, default: PixelSpec, stock: tuple[int, int] | None = None
) -> PixelSpec:
    """What the file of a processor of the Qwen2-VL kind says; absent keys are as in `default`, and so are limits that
    are `stock`, those of the class, which a file has that nobody has looked at."""
    require(config, "a Qwen2-VL processor", patch_size=patches.size, merge_size=patches.merge)
    require(config, "a Qwen2-VL processor", temporal_patch_size=patches.frames, resample=3)
    size = config.get_object("size", None)
    size = JsonObject({}, config.source) if size is None else size
    least = config.get_int("min_pixels", size.get_int("shortest_edge", default.least_pixels))
    most = config.get_int("max_pixels", size.get_int("longest_edge", default.most_pixels))
    if (least, most) == stock:
        least, most = default.least_pixels, default.most_pixels
    cell = (patches.size * patches.merge) ** 2
    if not 0 < least <= most or most < cell:
        raise CheckpointError(
            f"{config.source}: 'min_pixels' must be above 0, and 'max_pixels' no less, and room for a cell of {cell}; "
            f"got {least} and {most}"
        )
    mean = read_channels(config, ("image_mean",), default.mean)
    std = read_channels(config, ("image_std",), default.std, is_scale=True)
    return replace(default, least_pixels=least, most_pixels=most, mean=mean, std=std)


def read_channels(
    config: JsonObject,
    keys: tuple[str, ...],
    default: tuple[float, float, float],
    *,
    is_scale: bool = False,
) -> tuple[float, float, float]:
    """Three numbers, of red, green and blue, under the first of `keys` that is there; above 0 where they scale."""
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is None:
        return default
    listed = config.get_list(key)
    numbers = [float(x) for x in listed if isinstance(x, (int, float)) and not isinstance(x, bool)]
    if (
        len(numbers) != 3
        or len(listed) != 3
        or not all(abs(x) < 1e6 for x in numbers)
        or (is_scale and min(numbers) <= 0)
    ):
        raise CheckpointError(f"{config.source}: {key!r} must be three numbers, got {reprlib.repr(listed)}")
    red, green, blue = numbers
    return red, green, blue
