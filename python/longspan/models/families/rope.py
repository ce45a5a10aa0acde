"""RoPE as configs ask for it: its base, and how its frequencies are scaled for long texts."""

from __future__ import annotations

import math
from typing import Final

from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import check_rotary_dim, read_positive, read_size
from longspan.models.spec import Rotary, RotaryScaling

SCALED: Final = ("linear", "dynamic", "yarn")
LARGEST_FACTOR: Final = 1024.0  # beyond any that was published
PLAIN: Final = ("default",)


def read_rotary(
    config: JsonObject, dim: int, head_dim: int, *, plain: tuple[str, ...] = PLAIN, positions: int
) -> Rotary:
    """RoPE of the first `dim` of `head_dim` values, from `rope_theta`, `rope_scaling` and, as newer configs have it,
    `rope_parameters`.

    Args:
        plain: the rope types under which the places of a text are still 0, 1, 2, … and the angles plain.
        positions: `max_position_embeddings`, the trained length where the scaling names no other.
    """
    settings = None
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get_object(key, None)
        if rope is not None and _rope_type(rope, (*plain, *SCALED)) in SCALED:
            settings = rope
    scaling = None if settings is None else _read_scaling(settings, positions)
    return Rotary(_read_theta(config), check_rotary_dim(config, dim, head_dim), scaling=scaling)


def scaled_tokens(rotary: Rotary, positions: int) -> int:
    """The longest text: `positions` by the config, or as far as the scaling reaches."""
    scaling = rotary.scaling
    if scaling is None or scaling.kind not in ("dynamic", "yarn"):
        return positions
    return max(positions, int(scaling.trained_tokens * scaling.factor))


def _read_theta(config: JsonObject) -> float:
    theta = config.get_float("rope_theta", None)
    rope = config.get_object("rope_parameters", None)
    newer = None if rope is None else rope.get_float("rope_theta", None)
    if theta is not None and newer is not None and theta != newer:
        raise CheckpointError(f"{config.source}: 'rope_theta' is {theta}, but {newer} in 'rope_parameters'")
    if newer is not None and rope is not None:
        return read_positive(rope, "rope_theta")
    return read_positive(config, "rope_theta")


def _rope_type(rope: JsonObject, kinds: tuple[str, ...]) -> str:
    found = "default"
    for key in ("rope_type", "type"):
        kind = rope.get_str(key, "default")
        if kind not in kinds:
            raise CheckpointError(
                f"{rope.source}: {key!r} must be one of {', '.join(kinds)}, got {kind!r}; "
                f"positions scaled in another way are not supported"
            )
        found = kind if found == "default" else found
    return found


def read_factor(rope: JsonObject) -> float:
    """By how much texts may be longer: 1 or more."""
    factor = rope.get_float("factor")
    if not 1 <= factor <= LARGEST_FACTOR:
        raise CheckpointError(f"{rope.source}: 'factor' must be from 1 to {LARGEST_FACTOR:.0f}, got {factor}")
    return factor


def _read_scaling(rope: JsonObject, positions: int) -> RotaryScaling:
    kind, factor = _rope_type(rope, SCALED + PLAIN), read_factor(rope)
    if kind == "linear":
        return RotaryScaling("linear", factor)
    if kind == "dynamic":
        return RotaryScaling("dynamic", factor, positions)
    mscale, of_all = rope.get_float("mscale", None), rope.get_float("mscale_all_dim", None)
    default = _attention_factor(factor)
    if mscale and of_all:
        default = _attention_factor(factor, mscale) / _attention_factor(factor, of_all)
    beta_fast, beta_slow = read_positive(rope, "beta_fast", 32.0), read_positive(rope, "beta_slow", 1.0)
    if beta_fast < beta_slow:
        raise CheckpointError(f"{rope.source}: 'beta_fast' must be at least 'beta_slow', got {beta_fast}, {beta_slow}")
    return RotaryScaling(
        "yarn",
        factor,
        read_size(rope, "original_max_position_embeddings", positions),
        read_positive(rope, "attention_factor", default),
        beta_fast,
        beta_slow,
        rope.get_bool("truncate", True),
    )


def _attention_factor(factor: float, scale: float = 1.0) -> float:
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0
