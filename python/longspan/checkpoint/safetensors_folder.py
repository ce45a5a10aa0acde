"""The tensors of one folder: a single safetensors file, or the shards that an index lists."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from longspan.checkpoint.json_object import JsonObject
from longspan.checkpoint.safetensors_file import SafetensorsFile, Watch, widened
from longspan.errors import CheckpointError

S = TypeVar("S", bound=np.generic)

SHARD: Final = re.compile(r"-(?P<number>\d{5})-of-(?P<of>\d{5})\.safetensors")
FINITE_BLOCK: Final = 1 << 16  # values; the mask of a block stays in the first-level cache


@dataclass(frozen=True, slots=True)
class SafetensorsFolder:
    """The tensors of `<stem>.safetensors`, or of the shards that `<stem>.safetensors.index.json` lists."""

    folder: Path
    files: Mapping[str, SafetensorsFile]  # tensor name -> the file that holds it

    @classmethod
    def open(cls, folder: Path, stem: str = "model") -> SafetensorsFolder:
        """Open and check every file; CheckpointError where one is missing, damaged, or disagrees with the index."""
        single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
        if os.path.lexists(single):
            file = SafetensorsFile(single)
            return cls(folder, dict.fromkeys(file.names, file))
        if os.path.lexists(index):
            return cls(folder, _open_shards(folder, index))
        others = _other_names(folder, stem)
        if others:
            files = [SafetensorsFile(path) for path in others]
            held = {name: file for file in files for name in file.names}
            if len(held) < sum(len(file.names) for file in files):
                raise CheckpointError(f"{folder}: {', '.join(path.name for path in others)} hold some tensors twice")
            return cls(folder, held)
        pickles = ", ".join(sorted(path.name for path in folder.glob(f"*{stem}*.bin")))
        raise CheckpointError(
            f"{folder} has no {single.name}{f', only {pickles}' if pickles else ''}; pickled weights (.bin, .pt) are "
            f"never read, as opening one can run code; convert them, in their folder, with: {convert_command(stem)}"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names."""
        return tuple(self.files)

    def file(self, name: str) -> SafetensorsFile:
        """The file that holds the tensor; CheckpointError if none does."""
        try:
            return self.files[name]
        except KeyError:
            raise CheckpointError(f"{self.folder} has no tensor {name!r}") from None

    def dtype(self, name: str) -> str:
        """The dtype as the format spells it, such as "BF16"."""
        return self.file(name).dtype(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.file(name).shape(name)

    @overload
    def read(self, name: str) -> NDArray[np.float32]: ...
    @overload
    def read(self, name: str, dtype: type[S]) -> NDArray[S]: ...
    def read(self, name: str, dtype: type[np.generic] = np.float32) -> NDArray[np.generic]:
        """The tensor as `dtype`: a read-only view of the file if it is stored so, else a copy.

        A float becomes any float; a value too large for it becomes inf, which `require_finite` reports. Integers and
        bool become only what holds all their values, and never floats: integer weights mean nothing without scales.
        """
        file, wanted = self.file(name), np.dtype(dtype)
        array = file.read(name)
        fits = array.dtype.kind == "f" if wanted.kind == "f" else np.can_cast(array.dtype, wanted, "safe")
        if not fits:
            raise CheckpointError(f"{file.path}: tensor {name!r} is {file.dtype(name)}, which cannot become {wanted}")
        with np.errstate(over="ignore"):
            converted = array.astype(wanted, copy=False)
        if converted is not array or file.dtype(name) == "BF16":
            file.release(name)  # a checkpoint is not in memory twice while it is loaded
        return converted

    def bits(self, name: str) -> NDArray[np.uint16]:
        """A bfloat16 tensor's bits, for what computes with them; as `SafetensorsFile.bits`."""
        return self.file(name).bits(name)

    def require_finite(self, name: str, array: NDArray[np.generic]) -> None:
        """CheckpointError, naming the tensor and its file, if `array`, as read under `name`, holds NaN or infinity."""
        has_bits = array.dtype == np.uint16 and self.dtype(name) == "BF16"
        place = first_non_finite_bits(array) if has_bits else first_non_finite(array)
        if place is not None:
            value, dtype = array.reshape(-1)[place : place + 1], str(array.dtype)
            if has_bits:
                value, dtype = widened(value), "bfloat16"
            raise CheckpointError(
                f"{self.file(name).path}: tensor {name!r} holds {value[0]} at flat position {place}; "
                f"every value must be finite in {dtype}"
            )

    def watches(self) -> tuple[Watch, ...]:
        """Those of every file."""
        return tuple(file.watch() for file in self.files.values())

    def close(self) -> None:
        """Let go of every file's map; arrays already read stay valid."""
        for file in self.files.values():
            file.close()


def _other_names(folder: Path, stem: str) -> list[Path]:
    """Shards 1 to n of n without an index, or the only file whose name begins with the stem, such as
    model.fp16.safetensors; empty where there is neither, or a choice."""
    found = sorted(folder.glob(f"{stem}*.safetensors"))
    numbers = [SHARD.fullmatch(path.name.removeprefix(stem)) for path in found]
    if len(found) == 1 and numbers[0] is None:
        return found
    of = {match["of"] for match in numbers if match is not None}
    shards = [int(match["number"]) for match in numbers if match is not None]
    is_whole = len(of) == 1 and shards == [*range(1, int(next(iter(of))) + 1)] and len(shards) == len(found)
    return found if is_whole else []


def convert_command(stem: str) -> str:
    """The one line that turns `*<stem>*.bin` into `<stem>.safetensors`; tensors that share memory are written apart."""
    return (
        'python -c "import glob, torch; from safetensors.torch import save_file; '
        f"save_file({{k: v.contiguous().clone() for f in glob.glob('*{stem}*.bin') "
        "for k, v in torch.load(f, map_location='cpu', weights_only=True).items()}, "
        f"'{stem}.safetensors', {{'format': 'pt'}})\""
    )


def first_non_finite(array: NDArray[np.generic]) -> int | None:
    """The flat (C order) position of the first NaN or infinity; None if there is none, or if no value can be one."""
    if array.dtype.kind != "f":
        return None
    flat = array.reshape(-1)
    for start in range(0, flat.size, FINITE_BLOCK):
        finite = np.isfinite(flat[start : start + FINITE_BLOCK])
        if not finite.all():
            return start + int(finite.argmin())
    return None


def first_non_finite_bits(bits: NDArray[np.generic]) -> int | None:
    """The same of bfloat16's bits, (...) uint16: the exponent is all ones."""
    flat, ones = bits.reshape(-1), np.uint16(0x7F80)
    for start in range(0, flat.size, FINITE_BLOCK):
        wrong = (flat[start : start + FINITE_BLOCK] & ones) == ones
        if wrong.any():
            return start + int(wrong.argmax())
    return None


def _open_shards(folder: Path, index: Path) -> dict[str, SafetensorsFile]:
    """Tensor name -> shard, the index and the shards' own headers in agreement; what only its shard knows is
    there too."""
    weight_map = JsonObject.read(index, unique_keys=True).get_object("weight_map")
    listed = {name: weight_map.get_path(name, folder) for name in weight_map}
    if not listed:
        raise CheckpointError(f"{weight_map.source} must name the shard of every tensor, got an empty object")
    held: dict[str, SafetensorsFile] = {}
    for file in [SafetensorsFile(path) for path in sorted(set(listed.values()))]:
        for name in file.names:
            if name in held:
                raise CheckpointError(
                    f"{index}: tensor {name!r} is in both {held[name].path.name} and {file.path.name}"
                )
            held[name] = file
    for name, path in listed.items():
        if name not in held or held[name].path != path:
            raise CheckpointError(f"{index}: tensor {name!r} is not in its shard, {path.name}")
    return held
