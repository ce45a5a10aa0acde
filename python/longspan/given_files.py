"""A file as a caller has it: a path, its contents, an open file, or what data sets of Hugging Face have instead."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

MAX_NAME: Final = 300  # characters of what was no name of a file, in a message


def stored(value: Mapping[Any, Any]) -> object | None:
    """The file in {"bytes": contents or None, "path": ...}, as data sets of Hugging Face give what they do not decode;
    None if it is no such dict."""
    if "array" in value or not {"bytes", "path"} & value.keys():
        return None
    contents = value.get("bytes")
    return value.get("path") if contents is None else contents


def is_stored(value: object) -> bool:
    """Whether it is such a dict, with nothing else in it."""
    return isinstance(value, Mapping) and len(value) > 0 and value.keys() <= {"bytes", "path"}


def is_open_file(value: object) -> bool:
    """Whether it can be read from its start."""
    return hasattr(value, "read") and hasattr(value, "seek")


@contextmanager
def as_file(source: Path | bytes | BinaryIO, name: str) -> Iterator[BinaryIO]:
    """It as a file to read, with no name that tells a format. Raises: FileNotFoundError; ValueError, an open file is
    closed or cannot be read from its start; TypeError, it gives no bytes."""
    if isinstance(source, Path):
        if not os.path.isfile(source):  # Path.is_file raises for names that are too long
            at = name if name.endswith(str(source)) else f"{name}: {source}"
            raise FileNotFoundError(f"{at[:MAX_NAME]} is missing, or is not a file")
        # By number: decoders would take formats from a name's ending, and names need not be UTF-8.
        with open(os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb") as file:
            yield file
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        try:
            source.seek(0, os.SEEK_SET)
            gives_bytes = isinstance(source.read(0), bytes)
        except (OSError, ValueError) as error:  # it is a pipe, or closed
            raise ValueError(f"{name} must be a file that can be read from its start: {said(error)}") from error
        if not gives_bytes:
            raise TypeError(f"{name} must be a file of bytes, opened with mode 'rb', got {type(source).__name__}")
        yield source


def said(error: BaseException) -> str:
    """A decoder's message, in a line: libsndfile's and FFmpeg's own words, without Python's around them."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    lines = str(text).splitlines()
    return lines[0][:200] if lines and lines[0] else type(error).__name__
