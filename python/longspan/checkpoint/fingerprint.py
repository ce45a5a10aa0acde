"""One hash of all in a checkpoint that shapes a vector, so that vectors of two models are never taken for one's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.errors import CheckpointError
from longspan.fork_locks import ForkLock

RULES: Final = "longspan fingerprint 1"  # changes with what is hashed, or how
DIGITS: Final = 32  # hexadecimal: 128 bits of the SHA-256
BLOCK_BYTES: Final = 16 << 20  # hashed by one thread at a time
NUM_THREADS: Final = 4

# What tools write into these files when they save a model again, and what no vector depends on.
NOT_IN_CONFIG: Final = frozenset({"_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype"})
NOT_IN_TOKENIZER: Final = frozenset({"truncation", "padding"})  # ours, whatever the file says
NOT_IN_ADAPTER: Final = frozenset(
    {"base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version"}
)
# What of tokenizer_config.json reaches a token; see `text.tokenizer`.
IN_TOKENIZER_CONFIG: Final = (
    "tokenizer_class",
    "tokenize_chinese_chars",
    "strip_accents",
    "do_lower_case",
    "add_prefix_space",
    "truncation_side",
    "pad_token",
    "eos_token",
)


@dataclass(frozen=True, slots=True)
class Part:
    """Files of tensors, and their settings."""

    folder: Path
    stem: str  # of the files' names
    unused: tuple[str, ...]  # patterns of tensors that no vector depends on
    settings: Mapping[str, object]


class Fingerprint:
    """The hash of a checkpoint as it was opened; `value` reads the files once, when it is first asked for.

    Weights count as they are stored, tensor by tensor, however they are spread over files; so do the head's and the
    adapters'; of config.json all but what tools write about themselves; tokenizer.json without its own truncation and
    padding; and `settings`. The compute type does not count: it is recorded beside the fingerprint.

    Args:
        checkpoint: open, as the model was loaded from it.
        unused: patterns of tensors that the model leaves out.
        settings: what else shapes a vector, as JSON values: pooling, prompts, lengths.
        adapters: folders of PEFT adapters, by task.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        unused: Sequence[str],
        settings: Mapping[str, object],
        adapters: Iterable[tuple[str, Path]] = (),
    ) -> None:
        self._settings = dict(settings)
        self._json = {
            "config": (checkpoint.model_folder / "config.json", NOT_IN_CONFIG),
            "tokenizer": (checkpoint.tokenizer_file, NOT_IN_TOKENIZER),
        }
        config = checkpoint.tokenizer_config
        self._settings["tokenizer config"] = {key: config.get(key) for key in IN_TOKENIZER_CONFIG}
        self._settings["lower case"] = checkpoint.do_lower_case
        self._parts = {"model": Part(checkpoint.model_folder, "model", tuple(unused), {})}
        with_weights = [module for module in checkpoint.head if module.kind != "Normalize"]
        if len(with_weights) < len(checkpoint.head):
            self._settings["head"] = [module.kind for module in checkpoint.head]
        for place, module in enumerate(with_weights):
            self._parts[f"head {place}"] = Part(module.folder, "model", (), dict(module.config))
        self._stamps = _stamps([checkpoint.model_folder, *(module.folder for module in with_weights)])
        self._stamps |= _stamps([checkpoint.tokenizer_file])
        self._lock = ForkLock()
        self._value: str | None = None
        for task, folder in adapters:
            self.add_adapter(task, folder)

    def add_adapter(self, task: str, folder: Path) -> None:
        """Count one more adapter, which was loaded just now."""
        with self._lock:
            self._json[f"adapter {task}"] = (folder / "adapter_config.json", NOT_IN_ADAPTER)
            self._parts[f"adapter {task}"] = Part(folder, "adapter_model", (), {})
            self._stamps |= _stamps([folder])
            self._value = None

    @property
    def value(self) -> str:
        """32 hexadecimal digits. Raises: CheckpointError, a file was changed after the model was loaded."""
        with self._lock:
            if self._value is None:
                self._value = self._compute()
            return self._value

    def _compute(self) -> str:
        for path, stamp in self._stamps.items():
            if _stamp(path) != stamp:
                raise CheckpointError(
                    f"{path} was changed after the model was loaded, so its fingerprint is not known; load it again"
                )
        facts: dict[str, object] = {"rules": RULES, "settings": self._settings}
        for name, (path, left_out) in self._json.items():
            kept = {key: value for key, value in JsonObject.read(path).items() if key not in left_out}
            facts[f"json {name}"] = kept
        with ThreadPoolExecutor(NUM_THREADS, "longspan-fingerprint") as pool:
            for name, part in self._parts.items():
                facts[f"tensors {name}"] = [part.settings, _tensors(part, pool)]
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def _tensors(part: Part, pool: ThreadPoolExecutor) -> dict[str, list[object]]:
    """Of each tensor that is used: its type, its shape, the hashes of its blocks."""
    files = SafetensorsFolder.open(part.folder, part.stem)
    try:
        names = [name for name in files.names if not any(fnmatchcase(name, pattern) for pattern in part.unused)]
        blocks = {name: pool.map(_digest, _blocks(files.file(name).stored(name))) for name in names}
        return {name: [files.dtype(name), files.shape(name), list(blocks[name])] for name in names}
    finally:
        files.close()


def _blocks(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES))


def _digest(block: memoryview) -> str:
    return hashlib.sha256(block).hexdigest()


def _stamps(places: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Size and time of each file, and of those that lie in a folder and hold JSON or tensors."""
    found: dict[Path, tuple[int, int]] = {}
    for place in places:
        inside = [*place.glob("*.json"), *place.glob("*.safetensors")] if place.is_dir() else [place]
        found |= {path: _stamp(path) for path in inside}
    return found


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return (-1, -1)
    return status.st_size, status.st_mtime_ns
