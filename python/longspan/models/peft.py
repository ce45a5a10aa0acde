"""Low-rank adapters in folders as the PEFT library writes them: adapter_config.json, adapter_model.safetensors."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from longspan.checkpoint.json_object import JsonObject
from longspan.checkpoint.safetensors_file import widened
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.errors import CheckpointError

# Keys of adapter_config.json that change what an adapter computes, each with the values under which it is W + s B A.
PLAIN: Final[Mapping[str, tuple[object, ...]]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "lora_bias": (False,),
    "use_dora": (False,),
    "use_rslora": (False,),
    "fan_in_fan_out": (False,),
    "modules_to_save": ([],),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "layer_replication": ([],),
    "trainable_token_indices": ([],),
    "use_qalora": (False,),
    "target_parameters": ([],),
}
# How a module may be told from others of its model, beside its path: wrappers and names of the whole.
WRAPPERS: Final = (
    "base_model.model.",
    "model.",
    "language_model.",
    "bert.",
    "roberta.",
    "mpnet.",
    "text_model.",
    "transformer.",
)
FACTOR: Final = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(?:\.(?P<task>.+))?\.weight")


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What an adapter adds to one matrix: scaling B A. Those of bfloat16 lie in their file, as bits, until they are
    packed: a model has hundreds of them, and one at a time is widened."""

    stored_a: np.ndarray  # (rank, in) f32, or bfloat16's bits as uint16
    stored_b: np.ndarray  # (out, rank), the same
    scaling: float = 1.0

    @property
    def rank(self) -> int:
        """Rows of A."""
        return int(self.stored_a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the matrix."""
        return int(self.stored_b.shape[0]), int(self.stored_a.shape[1])

    @property
    def a(self) -> np.ndarray:
        """(rank, in) f32."""
        return _float32(self.stored_a)

    @property
    def b(self) -> np.ndarray:
        """(out, rank) f32, the scaling within."""
        b = _float32(self.stored_b)
        return b if self.scaling == 1 else b * np.float32(self.scaling)


def _float32(stored: np.ndarray) -> np.ndarray:
    return widened(stored) if stored.dtype == np.uint16 else stored


@dataclass(frozen=True, slots=True)
class Adapter:
    """One task's adapter."""

    name: str
    folder: Path
    factors: Mapping[str, Factors]  # by `bare` module name
    targets: tuple[str, ...]  # ends of the names of modules that it says it adapts; empty: it does not list them


def bare(module: str) -> str:
    """The module's path within the encoder, the same however the model around it was wrapped."""
    stripped = True
    while stripped:
        stripped = False
        for wrapper in WRAPPERS:
            if module.startswith(wrapper):
                module, stripped = module.removeprefix(wrapper), True
    return module


def read_peft(folder: Path, name: str, *, tasks_in_file: Collection[str] = ()) -> Adapter:
    """Read and check one adapter.

    Args:
        folder: holds both files.
        name: the task, by which it will be known.
        tasks_in_file: the tasks that share the file, `name` among them, each in the names of its tensors; empty where
            the file is one adapter's alone.
    Raises: FileNotFoundError, there is no such folder; CheckpointError, a file is missing, damaged, or asks for what is
        not supported.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder} is not a folder; give the folder that holds adapter_config.json")
    config = JsonObject.read(folder / "adapter_config.json")
    _require_plain(config)
    rank, alpha = config.get_int("r"), config.get_float("lora_alpha")
    if rank < 1:
        raise CheckpointError(f"{config.source}: 'r' must be 1 or more, got {rank}")
    files = SafetensorsFolder.open(folder, "adapter_model")
    try:
        factors = _read_factors(files, name, frozenset(tasks_in_file), rank, alpha / rank)
    finally:
        files.close()
    return Adapter(name, folder, factors, _targets(config))


def _require_plain(config: JsonObject) -> None:
    for key, plain in PLAIN.items():
        value = config.get(key)
        if value is not None and value not in plain:
            raise CheckpointError(
                f"{config.source}: {key!r} must be {plain[0]!r} or absent, got {value!r}; only plain LoRA is supported"
            )
    config.get_str("peft_type")


def _targets(config: JsonObject) -> tuple[str, ...]:
    """`target_modules` if it is a list that holds for all layers; a string is an expression, and the tensors decide."""
    listed = config.get("target_modules")
    if not isinstance(listed, list) or config.get("layers_to_transform") or config.get("exclude_modules"):
        return ()
    return tuple(str(name) for name in listed)


def _read_factors(
    files: SafetensorsFolder, task: str, tasks: frozenset[str], rank: int, scaling: float
) -> dict[str, Factors]:
    names: dict[str, dict[str, str]] = {}  # bare module -> part -> tensor
    every: set[str] = set()  # modules that any task of the file adapts
    for tensor in files.names:
        match = FACTOR.fullmatch(tensor)
        if match is None or (match["task"] not in tasks if tasks else match["task"] is not None):
            ends = f"lora_A.<{' | '.join(sorted(tasks))}>.weight" if tasks else "lora_A.weight"
            raise CheckpointError(
                f"{files.folder}: tensor {tensor} is no factor of a linear layer's adapter; names must end with {ends}"
            )
        module = bare(match["module"])
        every.add(module)
        if match["task"] in (task, None):
            parts = names.setdefault(module, {})
            if match["part"] in parts:
                raise CheckpointError(
                    f"{files.folder}: tensors {parts[match['part']]} and {tensor} are the same factor"
                )
            parts[match["part"]] = tensor
    middle = f".{task}" if tasks else ""
    for module in sorted(every):
        for part in "AB":
            if part not in names.get(module, {}):
                raise CheckpointError(f"{files.folder}: tensor {module}.lora_{part}{middle}.weight is missing")
    return {module: _read_pair(files, parts["A"], parts["B"], rank, scaling) for module, parts in names.items()}


def _read_pair(files: SafetensorsFolder, name_a: str, name_b: str, rank: int, scaling: float) -> Factors:
    for name, axis in ((name_a, 0), (name_b, 1)):
        shape = files.shape(name)
        if len(shape) != 2 or shape[axis] != rank:
            wanted = f"({rank}, in)" if axis == 0 else f"(out, {rank})"
            raise CheckpointError(f"{files.folder}: tensor {name} must be {wanted} by 'r', got {shape}")
    a, b = (
        files.bits(name) if files.dtype(name) == "BF16" else np.array(files.read(name)) for name in (name_a, name_b)
    )
    files.require_finite(name_a, a)
    files.require_finite(name_b, b)
    return Factors(a, b, scaling)
