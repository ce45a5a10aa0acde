"""What a family file is made of, and the readings of config.json that families share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from longspan.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.json_object import JsonObject
from longspan.models.spec import ModelSpec, WeightMap
from longspan.ops.linear import Activation

# config.json's names of activations. The tanh forms of GELU differ from the exact one by up to 5e-4.
ACTIVATIONS: Final[dict[str, Activation]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True, slots=True)
class Family:
    """A family of checkpoints.

    Args:
        name: as `longspan info` prints it.
        supports: what it loads, in a few words, for the error that lists what is supported.
        matches: whether a checkpoint is of this family, judged by its config and tensor names alone.
        describe: its spec and weight map; CheckpointError where the config lies or asks for what is not supported.
    """

    name: str
    supports: str
    matches: Callable[[Checkpoint], bool]
    describe: Callable[[Checkpoint], tuple[ModelSpec, WeightMap]]


def read_activation(config: JsonObject, key: str) -> Activation:
    """The activation that `config[key]` names."""
    name = config.get_str(key)
    if name not in ACTIVATIONS:
        raise CheckpointError(f"{config.source}: {key!r} must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def read_size(config: JsonObject, key: str) -> int:
    """A count of at least 1."""
    value = config.get_int(key)
    if value < 1:
        raise CheckpointError(f"{config.source}: {key!r} must be 1 or more, got {value}")
    return value


def read_head_dim(config: JsonObject, hidden_size: int, num_heads: int) -> int:
    """hidden_size / num_attention_heads, which must come out whole."""
    if hidden_size % num_heads:
        raise CheckpointError(
            f"{config.source}: 'hidden_size' {hidden_size} is no multiple of 'num_attention_heads' {num_heads}"
        )
    return hidden_size // num_heads


def find_prefix(names: Collection[str], anchor: str, prefixes: tuple[str, ...]) -> str:
    """The one of `prefixes` under which the tensor `anchor` is stored; the first if none is (it is then missing)."""
    return next((prefix for prefix in prefixes if prefix + anchor in names), prefixes[0])
