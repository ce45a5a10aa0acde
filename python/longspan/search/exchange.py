"""Codes to other engines and back: FAISS binary indexes, NumPy archives and Parquet.

FAISS, little endian (held against faiss-cpu in the tests):
    header    fourcc, int32 bits, int32 bytes a code, int64 codes, uint8 is trained, int32 metric (1)
    "IBxF"    IndexBinaryFlat: header, uint64 number of bytes, the codes
    "IBMp"    IndexBinaryIDMap (and "IBM2", IndexBinaryIDMap2): header, another index, uint64 number of ids, int64 ids
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from longspan.errors import IndexFileError
from longspan.own_files import open_new, written_aside
from longspan.search import parquet
from longspan.search.rows import Rows, Store, concatenate, is_store

Centers = dict[str, "np.ndarray | None"]
_FAISS_HEADER: Final = struct.Struct("<4siiqBi")
_FAISS_METRIC: Final = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """What an index's rows are."""

    dim: int
    store: Store


def write(path: Path, blocks: Iterator[Rows], kind: Kind, centers: Mapping[str, np.ndarray | None]) -> None:
    """Write the file that the suffix names, aside first and then renamed."""
    writers: dict[str, Callable[[IO[bytes]], None]] = {
        ".faiss": lambda file: _write_faiss(file, blocks, kind),
        ".npz": lambda file: _write_npz(file, blocks, kind, centers),
        ".parquet": lambda file: parquet.write(file, blocks, kind.dim, kind.store, centers),
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"BinaryIndex.export: the suffix must be one of {', '.join(writers)}, got {path.name!r}")
    with written_aside(path) as aside, open_new(aside) as file:
        writer(file)


def read(path: Path) -> tuple[Kind, Rows, Centers]:
    """What `write` wrote, or FAISS."""
    readers = {".faiss": _read_faiss, ".npz": _read_npz, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"BinaryIndex.from_export: the suffix must be one of {', '.join(readers)}, got {path.name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, or is not a file")
    return reader(path)


def _write_faiss(file: IO[bytes], blocks: Iterator[Rows], kind: Kind) -> None:
    if kind.dim % 8:
        raise ValueError(f"BinaryIndex.export: FAISS takes dims that are multiples of 8, got {kind.dim}")
    width = kind.dim // 8
    header = _FAISS_HEADER.pack(b"IBMp", kind.dim, width, 0, 1, _FAISS_METRIC)
    file.write(header * 2 + bytes(8))
    ids = [np.zeros(0, np.int64)]
    for block in blocks:
        file.write(np.ascontiguousarray(block.codes).data)
        ids.append(block.ids)
    joined = np.concatenate(ids)
    file.write(struct.pack("<Q", len(joined)) + joined.astype("<i8").tobytes())
    file.seek(0)
    for fourcc in (b"IBMp", b"IBxF"):
        file.write(_FAISS_HEADER.pack(fourcc, kind.dim, width, len(joined), 1, _FAISS_METRIC))
    file.write(struct.pack("<Q", len(joined) * width))


def _read_faiss(path: Path) -> tuple[Kind, Rows, Centers]:
    with open(path, "rb") as file:
        fourcc, dim, width, count = _faiss_header(file, path)
        has_ids = fourcc in (b"IBMp", b"IBM2")
        if has_ids:
            inner = _faiss_header(file, path)
            fourcc = inner[0]
            if inner[1:] != (dim, width, count):
                raise IndexFileError(f"{path} is damaged: the ids are {count}, the codes {inner[3]}")
        if fourcc != b"IBxF":
            raise IndexFileError(f"{path} must be an IndexBinaryFlat, also in an IndexBinaryIDMap, got {fourcc!r}")
        codes = _faiss_vector(file, path, "u1", count * width).reshape(count, width)
        ids = _faiss_vector(file, path, "<i8", count).astype(np.int64) if has_ids else np.arange(count, dtype=np.int64)
        return Kind(dim, "codes"), Rows(codes, ids, None, None), {}


def _faiss_header(file: IO[bytes], path: Path) -> tuple[bytes, int, int, int]:
    raw = file.read(_FAISS_HEADER.size)
    if len(raw) < _FAISS_HEADER.size:
        raise IndexFileError(f"{path} is no FAISS binary index, or cut off: its header ends after {len(raw)} bytes")
    fourcc, dim, width, count, _, _ = _FAISS_HEADER.unpack(raw)
    if fourcc[:2] != b"IB" or dim < 8 or dim != 8 * width or count < 0:
        raise IndexFileError(f"{path} is no FAISS binary index: it begins with {fourcc!r}, {dim} bits, {count} codes")
    return fourcc, dim, width, count


def _faiss_vector(file: IO[bytes], path: Path, dtype: str, expected: int) -> np.ndarray:
    raw = file.read(8)
    left = os.fstat(file.fileno()).st_size - file.tell()
    size = expected * np.dtype(dtype).itemsize
    if len(raw) < 8 or int.from_bytes(raw, "little") != expected or size > left:
        raise IndexFileError(f"{path} is damaged or cut off: {expected} values must come, {left} bytes are left")
    return np.frombuffer(bytearray(file.read(size)), dtype)


def _write_npz(file: IO[bytes], blocks: Iterator[Rows], kind: Kind, centers: Mapping[str, np.ndarray | None]) -> None:
    rows = concatenate([Rows.empty(0, kind.dim, kind.store), *blocks])
    arrays = {"dim": np.array(kind.dim), "store": np.array(kind.store), **rows.columns()}
    arrays.update({name: center for name, center in centers.items() if center is not None})
    np.savez(file, allow_pickle=False, **arrays)


def _read_npz(path: Path) -> tuple[Kind, Rows, Centers]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
            kind = (int(arrays["dim"]), str(arrays["store"]))
    except Exception as error:  # the zip and NumPy readers fail in a dozen ways
        raise IndexFileError(f"{path} is no archive that export wrote, or damaged: {error}") from error
    return _checked(path, kind, arrays)


def _read_parquet(path: Path) -> tuple[Kind, Rows, Centers]:
    return _checked(path, *parquet.read(path))


def _checked(path: Path, kind: tuple[int, str], arrays: Mapping[str, np.ndarray]) -> tuple[Kind, Rows, Centers]:
    """Arrays of a file as rows, if they are such."""
    dim, store = kind
    if not 1 <= dim <= 1 << 20 or not is_store(store):
        raise IndexFileError(f"{path}: dim {dim} or store {store!r} is not one of an index")
    due = Rows.empty(0, dim, store).columns()
    count = len(arrays["codes"]) if "codes" in arrays and arrays["codes"].ndim else 0
    for name, like in due.items():
        column = arrays.get(name)
        if column is None or column.dtype != like.dtype or column.shape != (count, *like.shape[1:]):
            got = "none" if column is None else f"{column.shape} {column.dtype}"
            raise IndexFileError(f"{path}: {name} must be {(count, *like.shape[1:])} {like.dtype}, got {got}")
    centers: Centers = {name: arrays.get(name) for name in ("center_documents", "center_queries")}
    return Kind(dim, store), Rows.of({name: arrays[name] for name in due}), centers
