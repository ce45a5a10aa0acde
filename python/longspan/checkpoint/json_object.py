"""JSON objects of a checkpoint, read with getters that name the file and the key in every complaint."""

from __future__ import annotations

import json
import os
import reprlib
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path, PureWindowsPath
from typing import Final, TypeVar

from longspan.errors import CheckpointError

MAX_JSON_BYTES: Final = 16_000_000  # ample for every config; an index of 100,000 tensors has less

T = TypeVar("T")
D = TypeVar("D")


class Required(Enum):
    """The default of a key that has none."""

    REQUIRED = "required"


REQUIRED: Final = Required.REQUIRED


class JsonObject(Mapping[str, object]):
    """A read-only JSON object that knows where it was read.

    A key whose value is null counts as missing: published configs write null for "not set".
    A value of another type, or a missing key without a default, is a CheckpointError that names `source` and the key.
    """

    __slots__ = ("_values", "source")

    def __init__(self, values: object, source: str) -> None:
        if not isinstance(values, dict):
            raise CheckpointError(f"{source} must be a JSON object, got {reprlib.repr(values)}")
        self._values: dict[str, object] = values
        self.source = source

    @classmethod
    def read(cls, path: Path, *, unique_keys: bool = False) -> JsonObject:
        """The object in the file `path`, which must exist; `unique_keys` refuses a key that is said twice."""
        return cls(parse_json(read_bytes(path), str(path), unique_keys=unique_keys), str(path))

    @classmethod
    def read_optional(cls, path: Path) -> JsonObject:
        """As `read`, but an empty object where there is no such file."""
        return cls.read(path) if os.path.lexists(path) else cls({}, str(path))

    def __getitem__(self, key: str) -> object:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_int(self, key: str, default: D | Required = REQUIRED) -> int | D:
        """An integer; true and 1.0 are none."""
        return self._checked(key, int, "an integer", default)

    def get_float(self, key: str, default: D | Required = REQUIRED) -> float | D:
        """A finite number, written with or without a point."""
        value = self._values.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
        return self._default(key, "a finite number", default)

    def get_str(self, key: str, default: D | Required = REQUIRED) -> str | D:
        """A string."""
        return self._checked(key, str, "a string", default)

    def get_bool(self, key: str, default: D | Required = REQUIRED) -> bool | D:
        """True or false; 0 and 1 are neither."""
        return self._checked(key, bool, "true or false", default)

    def get_list(self, key: str, default: D | Required = REQUIRED) -> list[object] | D:
        """A list of anything."""
        return self._checked(key, list, "a list", default)

    def get_object(self, key: str, default: D | Required = REQUIRED) -> JsonObject | D:
        """A nested object, whose source is this one's and the key."""
        value = self._values.get(key)
        if isinstance(value, dict):
            return JsonObject(value, f"{self.source}: {key}")
        return self._default(key, "a JSON object", default)

    def get_path(self, key: str, folder: Path) -> Path:
        """`folder` joined with a relative path that does not leave it.

        Only the text is checked: what lies there may be a symbolic link out of the folder, as in hub caches.
        """
        text = self.get_str(key)
        path = PureWindowsPath(text)  # knows both separators and drives, so that an answer holds on every system
        if path.anchor or ".." in path.parts or "\0" in text:
            raise CheckpointError(f"{self.source}: {key!r} must be a path inside the folder, got {reprlib.repr(text)}")
        return folder / text

    def _checked(self, key: str, kind: type[T], noun: str, default: D | Required) -> T | D:
        value = self._values.get(key)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        return self._default(key, noun, default)

    def _default(self, key: str, noun: str, default: D | Required) -> D:
        """`default` for a value that is absent or null; an error for one that is there and is not `noun`."""
        value = self._values.get(key)
        if value is not None:
            raise CheckpointError(f"{self.source}: {key!r} must be {noun}, got {reprlib.repr(value)}")
        if isinstance(default, Required):
            raise CheckpointError(f"{self.source}: {key!r} is missing; it must be {noun}")
        return default


def read_bytes(path: Path) -> bytes:
    """The whole of a regular file of at most MAX_JSON_BYTES."""
    if not os.path.isfile(path):  # also keeps us from waiting on a pipe
        raise CheckpointError(f"{path} is missing, or is not a file")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_JSON_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_JSON_BYTES} bytes, more than a checkpoint's JSON may take")
    return data


def parse_json(data: bytes, source: str, *, unique_keys: bool = False) -> object:
    """The value that UTF-8 JSON text holds; CheckpointError, naming `source`, for anything else."""
    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=_refuse_twins if unique_keys else None)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{source} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from error
    except RecursionError as error:
        raise CheckpointError(f"{source} is not usable JSON: it nests too deeply") from error
    except ValueError as error:
        raise CheckpointError(f"{source} is not valid JSON: {error}") from error
    return value


def _refuse_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {name!r} appears twice")
            seen.add(name)
    return values
