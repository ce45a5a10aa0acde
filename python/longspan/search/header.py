"""The header of an index's folder: JSON, with a SHA-256 of its own."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Generic, Protocol, TypeVar

import numpy as np

from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError, IndexFileError
from longspan.integers import LARGEST
from longspan.own_files import open_new
from longspan.vectors.origin import Origin

HEADER: Final = "index.json"
VERSION: Final = 1
ROWS: Final = "rows"  # the count of ids
MAX_DIM: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Column:
    """What a file of the folder holds, one behind the other."""

    dtype: np.dtype
    shape: tuple[int, ...]  # of one
    count: str = ROWS  # which of the header's counts says how many there are
    is_scattered: bool = False  # read here and there, not from end to end

    @property
    def row_bytes(self) -> int:
        """Of one."""
        return self.dtype.itemsize * math.prod(self.shape)


T = TypeVar("T", bound="State")
S_co = TypeVar("S_co", bound="State", covariant=True)


class State(Protocol):
    """What an index is beside its rows."""

    FORMAT: ClassVar[str]

    def columns(self) -> dict[str, Column]:
        """By name; `ids` is among them."""

    def to_json(self) -> dict[str, object]:
        """What `from_json` takes."""

    @classmethod
    def from_json(cls: type[T], body: JsonObject) -> T:
        """IndexFileError or CheckpointError where it is not what `to_json` gives."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the folder and how many of its bytes count."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Header(Generic[S_co]):
    """One state of a folder."""

    state: S_co
    token: str  # new with every save
    counts: Mapping[str, int]  # rows, with the deleted; and what else the columns count
    is_ascending: bool  # ids only rise
    files: Mapping[str, FileEntry]  # by column, and "deleted"
    checks: FileEntry
    checks_sha256: str


def write_header(folder: Path, header: Header[State]) -> None:
    """Put the header in its place in one step."""
    body = {
        "token": header.token,
        **header.state.to_json(),
        **header.counts,
        "is_ascending": header.is_ascending,
        "files": {name: {"name": entry.name, "bytes": entry.bytes} for name, entry in header.files.items()},
        "checks": {"name": header.checks.name, "bytes": header.checks.bytes, "sha256": header.checks_sha256},
    }
    document = {"format": header.state.FORMAT, "version": VERSION, "sha256": _digest(body), "index": body}
    aside = folder / f"{HEADER}.new"
    with open_new(aside) as file:
        file.write(json.dumps(document).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, folder / HEADER)


def read_format(folder: Path) -> str | None:
    """The `FORMAT` of what lies in `folder`, unchecked; None where nothing of ours does."""
    path = folder / HEADER
    try:
        return JsonObject.read(path).get_str("format", None) if path.is_file() else None
    except CheckpointError:
        return None


def read_header(folder: Path, kind: type[T]) -> Header[T]:
    """The header of `folder`, checked. FileNotFoundError where there is none."""
    path = folder / HEADER
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no index: there is no {HEADER} in it")
    try:
        document = JsonObject.read(path, unique_keys=True)
        if document.get_str("format") != kind.FORMAT:
            raise IndexFileError(f"{path}: 'format' must be {kind.FORMAT!r}, got {document.get_str('format')!r}")
        if document.get_int("version") != VERSION:
            raise IndexFileError(
                f"{path}: 'version' must be {VERSION}, got {document.get_int('version')}; a newer longspan may read it"
            )
        if document.get_str("sha256") != _digest(document["index"]):
            raise IndexFileError(f"{path} was altered: its SHA-256 is not the one it states; restore it")
        return _parsed(JsonObject(document["index"], str(path)), folder, kind)
    except (CheckpointError, KeyError) as error:
        raise IndexFileError(f"the header is damaged: {error}") from error


def _parsed(body: JsonObject, folder: Path, kind: type[T]) -> Header[T]:
    state = kind.from_json(body)
    columns = state.columns()
    counts = {name: body.get_int(name) for name in {ROWS: None, **{column.count: None for column in columns.values()}}}
    files = {name: _entry(body, name, info, folder) for name, info in JsonObject(body["files"], body.source).items()}
    for name, column in columns.items():
        count = counts[column.count]
        if count < 0 or name not in files or files[name].bytes != count * column.row_bytes:
            raise IndexFileError(f"{body.source}: {name} must have {count} rows of {column.row_bytes} bytes")
    deleted = files.get("deleted")
    if files.keys() - columns.keys() - {"deleted"} or (deleted and deleted.bytes != (counts[ROWS] + 7) // 8):
        raise IndexFileError(f"{body.source}: 'files' must be the columns and the deleted rows, got {list(files)}")
    checks = JsonObject(body["checks"], body.source)
    return Header(
        state=state,
        token=body.get_str("token"),
        counts=counts,
        is_ascending=body.get_bool("is_ascending"),
        files=files,
        checks=_entry(body, "checks", body["checks"], folder),
        checks_sha256=checks.get_str("sha256"),
    )


def read_dim(body: JsonObject) -> int:
    """The field `dim`, in its bounds."""
    dim = body.get_int("dim")
    if not 1 <= dim <= MAX_DIM:
        raise IndexFileError(f"{body.source}: 'dim' must be from 1 to {MAX_DIM}, got {dim}")
    return dim


def read_next_id(body: JsonObject) -> int:
    """The field `next_id`, in its bounds."""
    next_id = body.get_int("next_id")
    if not 0 <= next_id <= LARGEST + 1:
        raise IndexFileError(f"{body.source}: 'next_id' must be from 0 to 2^63, got {next_id}")
    return next_id


def read_origin(body: JsonObject) -> Origin | None:
    """The field `origin`; None where it is null, or the folder older than the field."""
    try:
        return Origin.from_json(body.get("origin"))
    except ValueError as error:
        raise IndexFileError(f"{body.source}: {error}") from error


def read_floats(body: JsonObject, key: str, dim: int, dtype: type) -> np.ndarray | None:
    """The field `key`, a list of `dim` floats or null."""
    values = body[key]
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != dim or not all(type(value) is float for value in values):
        raise IndexFileError(f"{body.source}: {key!r} must be {dim} numbers or null, got {reprlib.repr(values)}")
    with np.errstate(over="ignore"):
        array: np.ndarray = np.array(values).astype(dtype)
    if not np.isfinite(array).all():
        raise IndexFileError(f"{body.source}: {key!r} holds numbers beyond {np.dtype(dtype)}")
    return array


def listed(values: np.ndarray | None) -> list[float] | None:
    """What `read_floats` takes."""
    return None if values is None else [float(value) for value in values]


def _entry(body: JsonObject, name: str, info: object, folder: Path) -> FileEntry:
    entry = JsonObject(info, f"{body.source}: {name}")
    file_name, size = entry.get_str("name"), entry.get_int("bytes")
    if not re.fullmatch(rf"{re.escape(name)}-\d{{6,20}}\.bin", file_name, re.ASCII) or size < 0:
        raise IndexFileError(
            f"{entry.source}: must be a file such as {name}-000001.bin in {folder} and its size, got {file_name!r} and "
            f"{size}"
        )
    return FileEntry(file_name, size)


def _digest(body: object) -> str:
    """Of the content, however the JSON is spaced."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
