"""What a family file is made of, and the readings of config.json that families share."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import REQUIRED, JsonObject, Required
from longspan.errors import CheckpointError
from longspan.models.spec import LinearMap, ModelSpec, NormMap, WeightMap
from longspan.ops.activations import Activation

T = TypeVar("T")

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


EPS, THETA = (1e-20, 0.1), (1.0, 1e12)
# What a number in a config may be, wherever it stands, in every family: outside, a model computes NaN or nonsense.
NUMBERS: Final[dict[str, tuple[float, float]]] = {
    "layer_norm_eps": EPS,
    "layer_norm_epsilon": EPS,
    "rms_norm_eps": EPS,
    "norm_eps": EPS,
    "rope_theta": THETA,
    "rotary_emb_base": THETA,
    "global_rope_theta": THETA,
    "local_rope_theta": THETA,
    "rope_local_base_freq": THETA,
    "pad_token_id": (-1, 2**31),
    "num_hidden_layers": (1, 100_000),
    "num_attention_heads": (1, 100_000),
    "num_key_value_heads": (1, 100_000),
    "hidden_size": (1, 2**24),
    "intermediate_size": (1, 2**24),
    "head_dim": (1, 2**16),
    "vocab_size": (1, 2**31),
    "max_position_embeddings": (1, 2**31),
    "d_model": (1, 2**24),
    "encoder_ffn_dim": (1, 2**24),
    "n_window": (1, 2**16),
    "num_mel_bins": (1, 2**12),
}


def check_numbers(config: JsonObject) -> None:
    """CheckpointError where a number of the config, or of an object in it, is not in the range of `NUMBERS`."""
    for key, value in config.items():
        if isinstance(value, dict):
            check_numbers(JsonObject(value, f"{config.source}: {key}"))
        elif key in NUMBERS and isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = NUMBERS[key]
            if not low <= value <= high:
                raise CheckpointError(f"{config.source}: {key!r} must be from {low:.12g} to {high:.12g}, got {value!r}")


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


def read_activation(config: JsonObject, key: str, default: str | Required = REQUIRED) -> Activation:
    """The activation that `config[key]` names."""
    name = config.get_str(key, default)
    if name not in ACTIVATIONS:
        raise CheckpointError(f"{config.source}: {key!r} must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def read_choice(config: JsonObject, key: str, default: str, choices: Mapping[str, T]) -> T:
    """What the name in `config[key]` stands for."""
    name = config.get_str(key, default)
    if name not in choices:
        raise CheckpointError(f"{config.source}: {key!r} must be one of {', '.join(choices)}, got {name!r}")
    return choices[name]


def read_size(config: JsonObject, key: str, default: int | Required = REQUIRED) -> int:
    """A count of at least 1."""
    value = config.get_int(key, default)
    if value < 1:
        raise CheckpointError(f"{config.source}: {key!r} must be 1 or more, got {value}")
    return value


def read_positive(config: JsonObject, key: str, default: float | Required = REQUIRED) -> float:
    """A number above 0."""
    value = config.get_float(key, default)
    if value <= 0:
        raise CheckpointError(f"{config.source}: {key!r} must be above 0, got {value}")
    return value


def read_num_layers(config: JsonObject, key: str, names: Collection[str]) -> int:
    """A count of layers that the tensors `names` can make up, so that a wild one is not worked through."""
    value = read_size(config, key)
    if value > len(names):
        raise CheckpointError(f"{config.source}: {key!r} is {value}, but the weights have {len(names)} tensors")
    return value


def read_names(config: JsonObject, key: str) -> tuple[str, ...]:
    """A list of names: at least one, none twice, none empty or "base", which stands for no adapter."""
    listed = config.get_list(key)
    names = tuple(name for name in listed if isinstance(name, str) and name not in ("", "base"))
    if not names or len(names) < len(listed) or len(set(names)) < len(names):
        raise CheckpointError(f"{config.source}: {key!r} must be a list of different names, got {reprlib.repr(listed)}")
    return names


def read_dims(config: JsonObject, key: str, hidden_size: int) -> tuple[int, ...]:
    """The sizes that a vector may be cut to, rising; empty where `config[key]` is absent."""
    listed = config.get_list(key, [])
    dims = sorted({dim for dim in listed if isinstance(dim, int) and not isinstance(dim, bool)})
    if len(dims) < len(listed) or (dims and not 1 <= dims[0] <= dims[-1] <= hidden_size):
        raise CheckpointError(
            f"{config.source}: {key!r} must be different integers from 1 to {hidden_size}, got {reprlib.repr(listed)}"
        )
    return tuple(dims)


def read_texts(config: JsonObject, key: str) -> tuple[tuple[str, str], ...]:
    """Name and text of every entry of the object `config[key]`; empty where it is absent."""
    texts = config.get_object(key, None)
    return () if texts is None else tuple((name, texts.get_str(name)) for name in texts)


def require(config: JsonObject, family: str, **settings: object) -> None:
    """Refuse a config in which a key has another value than the one supported; absent and null agree with any."""
    for key, supported in settings.items():
        value = config.get(key)
        if value is not None and value != supported:
            wanted = "absent or null" if supported is None else repr(supported)
            raise CheckpointError(
                f"{config.source}: {key!r} must be {wanted}, got {reprlib.repr(value)}; {family} is supported so only"
            )


def check_rotary_dim(config: JsonObject, dim: int, head_dim: int) -> int:
    """`dim`, the values of a head that RoPE turns: an even number, `head_dim` at most."""
    if dim < 2 or dim % 2 or dim > head_dim:
        raise CheckpointError(
            f"{config.source}: RoPE must turn an even number of values of a head, from 2 to {head_dim}, got {dim}"
        )
    return dim


def read_head_dim(
    config: JsonObject,
    hidden_size: int,
    num_heads: int,
    *,
    keys: tuple[str, str] = ("hidden_size", "num_attention_heads"),
) -> int:
    """hidden_size / num_heads, read from `keys`, which must come out whole."""
    if hidden_size % num_heads:
        raise CheckpointError(f"{config.source}: {keys[0]!r} {hidden_size} is no multiple of {keys[1]!r} {num_heads}")
    return hidden_size // num_heads


def find_prefix(names: Collection[str], anchor: str, prefixes: tuple[str, ...]) -> str:
    """The one of `prefixes` under which the tensor `anchor` is stored, or the one other prefix under which it is, as
    wrappers write it; the first of `prefixes` if none is (it is then missing)."""
    known = next((prefix for prefix in prefixes if prefix + anchor in names), None)
    if known is not None:
        return known
    others = [name.removesuffix(anchor) for name in names if name.endswith(f".{anchor}")]
    return others[0] if len(others) == 1 else prefixes[0]


def linear_map(*modules: str, bias: bool) -> LinearMap:
    """`weight`, and `bias` if there is one, of modules that are stacked by rows."""
    return LinearMap(tuple(f"{m}.weight" for m in modules), tuple(f"{m}.bias" for m in modules) if bias else ())


def norm_map(module: str, *, bias: bool) -> NormMap:
    """`weight`, and `bias` if there is one, of a norm."""
    return NormMap(f"{module}.weight", f"{module}.bias" if bias else None)
