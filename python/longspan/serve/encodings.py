"""Vectors as clients want them: which numbers, and how they are written."""

from __future__ import annotations

import binascii
import io
from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import orjson

from longspan.vectors.quantize import quantize_embeddings

Numbers = Literal["float", "int8", "uint8", "binary", "ubinary"]
Written = Literal["list", "base64"]
NUMBERS: Final[tuple[Numbers, ...]] = ("float", "int8", "uint8", "binary", "ubinary")


def as_numbers(vectors: np.ndarray, numbers: Numbers) -> np.ndarray:
    """(n, dim) f32 as the numbers asked for.

    int8: clip(rint(127 x)); uint8: rint(127.5 (x + 1)), clipped: one scale for all vectors of unit length. binary and
    ubinary: `quantize_embeddings`.
    """
    if numbers == "float":
        return np.ascontiguousarray(vectors, np.float32)
    if numbers == "int8":
        return np.clip(np.rint(vectors * np.float32(127)), -127, 127).astype(np.int8)
    if numbers == "uint8":
        return np.clip(np.rint((vectors + np.float32(1)) * np.float32(127.5)), 0, 255).astype(np.uint8)
    return quantize_embeddings(vectors, numbers)


def row_texts(values: np.ndarray, written: Written) -> Iterator[bytes]:
    """Each row of (n, width) as JSON: a list of numbers, or a string of base64 over its little-endian bytes."""
    rows = np.ascontiguousarray(values)
    if written == "base64":
        little = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
        for row in little:
            yield b'"' + binascii.b2a_base64(row, newline=False) + b'"'
    else:
        for row in rows:
            yield orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)


def nested_text(matrix: np.ndarray) -> bytes:
    """(n, width) as a JSON list of lists."""
    return orjson.dumps(np.ascontiguousarray(matrix), option=orjson.OPT_SERIALIZE_NUMPY)


def raw_bytes(vectors: np.ndarray, dtype: str, endianness: str) -> bytes:
    """The rows of (n, dim) one after the other."""
    return vectors.astype(np.dtype(dtype).newbyteorder("<" if endianness == "little" else ">")).tobytes()


def npy_bytes(vectors: np.ndarray) -> bytes:
    """A file that `np.load` reads."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(vectors), allow_pickle=False)
    return file.getvalue()
