"""Tensors out of safetensors files: memory-mapped, checked against the file before a byte of them is used.

The library's NumPy door copies every tensor and needs another package for bfloat16; this reader does neither.
Format: 8 bytes, the header's length N, little endian; N bytes of JSON, {name: {dtype, shape, data_offsets}}; then the
tensors' bytes, which follow one another without hole or overlap up to the end of the file.
"""

from __future__ import annotations

import math
import mmap
import os
import reprlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from longspan.checkpoint.json_object import JsonObject, parse_json
from longspan.errors import CheckpointError

# How each dtype lies in the file. NumPy has no bfloat16, and its bool holds no byte but 0 and 1: read() converts both.
STORED: Final[Mapping[str, np.dtype[np.generic]]] = {
    "BOOL": np.dtype("u1"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
MAX_HEADER_BYTES: Final = 100_000_000  # the format's own limit
MAX_TENSORS: Final = 200_000  # a model of a thousand experts in a hundred layers has fewer
MAX_DIMS: Final = 32  # what every NumPy can hold


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a header: its dtype's name in the format, its shape, its bytes [begin, end) after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Watch:
    """Sees to it that a file that was mapped is as long as it was, while anything is still read from the map."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self._path, self._size, self._map = path, len(mapped), weakref.ref(mapped)

    def check(self) -> None:
        """CheckpointError if the file was shortened: a read behind its end would end the process."""
        mapped = self._map()
        if mapped is not None and (size := mapped.size()) < self._size:
            raise CheckpointError(
                f"{self._path} was shortened while the model was in use: it has {size} of {self._size} bytes; restore "
                f"it and load the model again"
            )


class SafetensorsFile:
    """One safetensors file, its header checked when it is opened; CheckpointError for a file that breaks the format.

    The file is held by the memory map alone. Arrays that `read` returns keep the map alive, and it goes with the last
    of them once this object is closed or dropped. A file must not be shortened meanwhile: `watch` tells of one that
    was, before it is read; nobody survives one that is cut off under the read itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = _map_file(path)
        self._data_start, self._entries = _read_header(self._map, str(path))

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names, in the order of their bytes."""
        return tuple(self._entries)

    def dtype(self, name: str) -> str:
        """The dtype as the format spells it: a key of STORED."""
        return self._entry(name).dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._entry(name).shape

    def read(self, name: str) -> NDArray[np.generic]:
        """The tensor: a read-only view of the file, or a copy where a view cannot be had.

        Copied are bfloat16 (widened to float32, exactly), bool, and tensors that lie unaligned to their items.
        """
        stored, dtype = self._stored(name), self.dtype(name)
        if dtype == "BF16":
            return widened(stored)
        if dtype == "BOOL":
            return stored.astype(np.bool_)
        return np.require(stored, requirements="A")

    def bits(self, name: str) -> NDArray[np.uint16]:
        """A bfloat16 tensor's bits: a read-only view of the file, or a copy where they lie unaligned."""
        if self.dtype(name) != "BF16":
            raise ValueError(f"{self.path}: tensor {name!r} must be BF16 to have its bits, got {self.dtype(name)}")
        return np.require(self._stored(name).view(np.uint16), requirements="A")

    def _stored(self, name: str) -> NDArray[np.generic]:
        """The tensor as it lies in the file, maybe unaligned."""
        entry = self._entry(name)
        if self._map is None:
            raise ValueError(f"{self.path} is closed: read its tensors before close()")
        flat = np.frombuffer(
            self._map, STORED[entry.dtype], count=math.prod(entry.shape), offset=self._data_start + entry.begin
        )
        return flat.reshape(entry.shape)

    def stored(self, name: str) -> memoryview:
        """The tensor's bytes as they lie in the file: a view of it, to be let go of before `close`."""
        entry = self._entry(name)
        if self._map is None:
            raise ValueError(f"{self.path} is closed: read its tensors before close()")
        return memoryview(self._map)[self._data_start + entry.begin : self._data_start + entry.end]

    def release(self, name: str) -> None:
        """Give back the memory that the tensor's part of the file takes; a view of it reads it again when asked."""
        entry = self._entry(name)
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            first = (self._data_start + entry.begin) // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, first, self._data_start + entry.end - first)

    def watch(self) -> Watch:
        """What tells, later and after `close`, whether views of the file may still be read."""
        if self._map is None:
            raise ValueError(f"{self.path} is closed: ask before close()")
        return Watch(self.path, self._map)

    def close(self) -> None:
        """Let go of the map; arrays already read stay valid and hold it until they are dropped.

        What of the file is in memory is given back; a view that stays, of an embedding table, reads its rows again.
        """
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        self._map = None

    def _entry(self, name: str) -> TensorEntry:
        try:
            return self._entries[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {name!r}") from None


def widened(bits: NDArray[np.generic]) -> NDArray[np.float32]:
    """Bfloat16s, given as uint16, as float32, exactly: they are its upper half."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _map_file(path: Path) -> mmap.mmap:
    if not os.path.isfile(path):
        raise CheckpointError(f"{path} is missing, or is not a file")
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < 8:
                raise CheckpointError(f"{path} is no safetensors file: it is shorter than 8 bytes")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _read_header(data: mmap.mmap, source: str) -> tuple[int, dict[str, TensorEntry]]:
    """Where the tensors' bytes begin, and the tensors in the order of their bytes."""
    if data[:20] == b"version https://git-":
        raise CheckpointError(f"{source} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, MAX_HEADER_BYTES):
        raise CheckpointError(
            f"{source} is truncated or no safetensors file: its header claims {length} bytes, {len(data) - 8} follow, "
            f"{MAX_HEADER_BYTES} are allowed"
        )
    text = data[8 : 8 + length]
    if not text.startswith(b"{"):
        raise CheckpointError(f"{source} is no safetensors file: its header must begin with '{{', got {text[:8]!r}")
    header = JsonObject(parse_json(text, f"{source}: the header", unique_keys=True), f"{source}: the header")
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{source} has {len(header):,} tensors; a model has {MAX_TENSORS:,} at most")
    entries = {name: _read_entry(name, info, source) for name, info in header.items() if name != "__metadata__"}
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    due = 0
    for name, entry in entries.items():
        if entry.begin != due:
            raise CheckpointError(
                f"{source}: tensor {name!r} begins at byte {entry.begin}, the one before it ends at {due}: "
                "tensors must neither overlap nor leave a hole"
            )
        due = entry.end
    if due != len(data) - 8 - length:
        raise CheckpointError(
            f"{source} is truncated or overlong: its tensors take {due} bytes, but {len(data) - 8 - length} follow the "
            "header; fetch the file again"
        )
    return 8 + length, entries


def _read_entry(name: str, info: object, source: str) -> TensorEntry:
    fields = JsonObject(info, f"{source}: tensor {name!r}")
    dtype = fields.get_str("dtype")
    if dtype not in STORED:
        raise CheckpointError(f"{fields.source}: 'dtype' must be one of {', '.join(STORED)}, got {reprlib.repr(dtype)}")
    shape = _naturals(fields, "shape")
    item_bytes = STORED[dtype].itemsize
    # Nothing in the file bounds the dimensions of a tensor without values, and NumPy refuses those beyond its index.
    if len(shape) > MAX_DIMS or math.prod(dim for dim in shape if dim) * item_bytes > 2**63 - 1:
        raise CheckpointError(f"{fields.source}: 'shape' must be one that an array can have, got {reprlib.repr(shape)}")
    offsets = _naturals(fields, "data_offsets")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{fields.source}: 'data_offsets' must be [begin, end], got {reprlib.repr(offsets)}")
    begin, end = offsets
    if math.prod(shape) * item_bytes != end - begin:
        raise CheckpointError(
            f"{fields.source}: {dtype} of shape {shape} takes {math.prod(shape) * item_bytes} bytes, "
            f"but 'data_offsets' span {end - begin}"
        )
    return TensorEntry(dtype, shape, begin, end)


def _naturals(fields: JsonObject, key: str) -> tuple[int, ...]:
    values = fields.get_list(key)
    naturals = tuple(value for value in values if type(value) is int and value >= 0)  # type(): true is no number
    if len(naturals) < len(values):
        raise CheckpointError(f"{fields.source}: {key!r} must hold integers of 0 and above, got {reprlib.repr(values)}")
    return naturals
