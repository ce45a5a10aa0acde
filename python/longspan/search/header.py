"""The header of an index's folder: JSON, with a SHA-256 of its own."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from longspan.errors import CheckpointError, IndexFileError
from longspan.json_object import JsonObject
from longspan.search.segment import Rows, Store, is_store
from longspan.search.spread import MeanDirection

HEADER: Final = "index.json"
FORMAT: Final = "longspan binary index"
VERSION: Final = 1
_MAX_DIM: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class State:
    """What an index is beside its rows."""

    dim: int
    store: Store
    center_documents: np.ndarray | None  # (dim,) f32
    center_queries: np.ndarray | None
    next_id: int
    direction: MeanDirection


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the folder and how many of its bytes count."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """One state of a folder."""

    state: State
    token: str  # new with every save
    rows: int  # with the deleted
    is_ascending: bool  # ids only rise
    files: dict[str, FileEntry]  # by column, and "deleted"
    checks: FileEntry
    checks_sha256: str


def write_header(folder: Path, header: Header) -> None:
    """Put the header in its place in one step."""
    state = header.state
    body = {
        "token": header.token,
        "dim": state.dim,
        "store": state.store,
        "rows": header.rows,
        "is_ascending": header.is_ascending,
        "next_id": state.next_id,
        "center_documents": _listed(state.center_documents),
        "center_queries": _listed(state.center_queries),
        "direction_total": _listed(state.direction.total),
        "direction_count": state.direction.count,
        "files": {name: {"name": entry.name, "bytes": entry.bytes} for name, entry in header.files.items()},
        "checks": {"name": header.checks.name, "bytes": header.checks.bytes, "sha256": header.checks_sha256},
    }
    document = {"format": FORMAT, "version": VERSION, "sha256": _digest(body), "index": body}
    aside = folder / f"{HEADER}.new"
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, folder / HEADER)


def read_header(folder: Path) -> Header:
    """The header of `folder`, checked. FileNotFoundError where there is none."""
    path = folder / HEADER
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no index: there is no {HEADER} in it")
    try:
        document = JsonObject.read(path, unique_keys=True)
        if document.get_str("format") != FORMAT:
            raise IndexFileError(f"{path}: 'format' must be {FORMAT!r}, got {document.get_str('format')!r}")
        if document.get_int("version") != VERSION:
            raise IndexFileError(
                f"{path}: 'version' must be {VERSION}, got {document.get_int('version')}; a newer longspan may read it"
            )
        if document.get_str("sha256") != _digest(document["index"]):
            raise IndexFileError(f"{path} was altered: its SHA-256 is not the one it states; restore it")
        return _parsed(JsonObject(document["index"], str(path)), folder)
    except (CheckpointError, KeyError) as error:
        raise IndexFileError(f"the header is damaged: {error}") from error


def _parsed(body: JsonObject, folder: Path) -> Header:
    dim, rows, store = body.get_int("dim"), body.get_int("rows"), body.get_str("store")
    if not 1 <= dim <= _MAX_DIM or rows < 0 or not is_store(store):
        raise IndexFileError(f"{body.source}: dim {dim}, rows {rows} or store {store!r} is not one of an index")
    state = State(
        dim=dim,
        store=store,
        center_documents=_floats(body, "center_documents", dim, np.float32),
        center_queries=_floats(body, "center_queries", dim, np.float32),
        next_id=body.get_int("next_id"),
        direction=MeanDirection(
            _required(_floats(body, "direction_total", dim, np.float64), body), body.get_int("direction_count")
        ),
    )
    files = {name: _entry(body, name, info, folder) for name, info in JsonObject(body["files"], body.source).items()}
    due = {name: column.itemsize * math.prod(column.shape[1:]) for name, column in _columns(state).items()}
    for name, row_bytes in due.items():
        if name not in files or files[name].bytes != rows * row_bytes:
            raise IndexFileError(f"{body.source}: {name} must have {rows} rows of {row_bytes} bytes")
    if files.keys() - due.keys() - {"deleted"} or ("deleted" in files and files["deleted"].bytes != (rows + 7) // 8):
        raise IndexFileError(f"{body.source}: 'files' must be the columns and the deleted rows, got {list(files)}")
    checks = JsonObject(body["checks"], body.source)
    return Header(
        state=state,
        token=body.get_str("token"),
        rows=rows,
        is_ascending=body.get_bool("is_ascending"),
        files=files,
        checks=_entry(body, "checks", body["checks"], folder),
        checks_sha256=checks.get_str("sha256"),
    )


def _columns(state: State) -> dict[str, np.ndarray]:
    return Rows.empty(0, state.dim, state.store).columns()


def _entry(body: JsonObject, name: str, info: object, folder: Path) -> FileEntry:
    entry = JsonObject(info, f"{body.source}: {name}")
    file_name, size = entry.get_str("name"), entry.get_int("bytes")
    if file_name != os.path.basename(file_name) or size < 0:
        raise IndexFileError(f"{entry.source}: must be a file in {folder} and its size, got {file_name!r} and {size}")
    return FileEntry(file_name, size)


def _floats(body: JsonObject, key: str, dim: int, dtype: type) -> np.ndarray | None:
    values = body[key]
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != dim or not all(type(value) is float for value in values):
        raise IndexFileError(f"{body.source}: {key!r} must be {dim} numbers or null")
    return np.array(values, dtype)


def _required(values: np.ndarray | None, body: JsonObject) -> np.ndarray:
    if values is None:
        raise IndexFileError(f"{body.source}: 'direction_total' must be numbers, got null")
    return values


def _listed(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def _digest(body: object) -> str:
    """Of the content, however the JSON is spaced."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
