"""Token vectors in formats that NumPy has no dtype for: bfloat16, and int8 with a scale a token."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from longspan.ops.arrays import Array, dtype_of, is_torch, rows_contiguous, to_numpy
from longspan.ops.checks import check_axes
from longspan.reference import maxsim_tokens as plain

ROWS_AT_ONCE = 65536  # bounds the temporary arrays of a conversion


@dataclass(frozen=True, slots=True)
class Bfloat16Tokens:
    """Token vectors as bfloat16 bit patterns.

    Args:
        bits: (total_tokens, dim) uint16; may be a memory map.
    Raises: ValueError, `bits` is not that.
    """

    bits: np.ndarray

    def __post_init__(self) -> None:
        """Check the bits."""
        check_axes("Bfloat16Tokens", "bits", self.bits, ("total_tokens", "dim"))
        if self.bits.dtype != np.uint16:
            raise ValueError(f"Bfloat16Tokens: bits must be uint16, got {self.bits.dtype}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(total_tokens, dim)."""
        return self.bits.shape

    def to_float32(self) -> np.ndarray:
        """(total_tokens, dim) f32, exactly."""
        return plain.bfloat16_values(self.bits)


@dataclass(frozen=True, slots=True)
class Int8Tokens:
    """Token vectors as int8 with a scale a token: vector = values * scale.

    Args:
        values: (total_tokens, dim) int8; may be a memory map, or a torch tensor on a GPU.
        scales: (total_tokens,) f32.
    Raises: ValueError, an array is not that.
    """

    values: np.ndarray
    scales: np.ndarray

    def __post_init__(self) -> None:
        """Check the arrays."""
        check_axes("Int8Tokens", "values", self.values, ("total_tokens", "dim"))
        check_axes("Int8Tokens", "scales", self.scales, (self.values.shape[0],))
        if dtype_of(self.values) != "int8":
            raise ValueError(f"Int8Tokens: values must be int8, got {dtype_of(self.values)}")
        if dtype_of(self.scales) != "float32":
            raise ValueError(f"Int8Tokens: scales must be float32, got {dtype_of(self.scales)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(total_tokens, dim)."""
        return self.values.shape

    def to_float32(self) -> np.ndarray:
        """(total_tokens, dim) f32."""
        return self.values.astype(np.float32) * self.scales[:, None]


Tokens = Array | Bfloat16Tokens | Int8Tokens


def to_bfloat16(x: Array) -> Bfloat16Tokens:
    """Round token vectors to bfloat16, to nearest, ties to even: half the memory of float32, 8 bits of precision.

    Args:
        x: (total_tokens, dim) f32.
    Returns: a Bfloat16Tokens.
    Raises: ValueError, `x` is not that.
    """
    rows = _float_rows("to_bfloat16", x)
    bits = np.empty(rows.shape, np.uint16)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        bits[start : start + ROWS_AT_ONCE] = plain.bfloat16_bits(rows[start : start + ROWS_AT_ONCE])
    return Bfloat16Tokens(bits)


def to_int8(x: Array) -> Int8Tokens:
    """Round token vectors to int8, each with the scale max(abs(vector)) / 127: a quarter of the memory of float32.

    Args:
        x: (total_tokens, dim) f32, dim at least 1. A vector that holds NaN or infinity gets the scale NaN.
    Returns: an Int8Tokens.
    Raises: ValueError, `x` is not that.
    """
    rows = _float_rows("to_int8", x)
    values, scales = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        wholes, scale = plain.whole_numbers(rows[part], 127)
        values[part], scales[part] = wholes, scale[:, 0]
    return Int8Tokens(values, scales)


def _float_rows(op: str, x: Array) -> np.ndarray:
    check_axes(op, "x", x, ("total_tokens", "dim"))
    if x.shape[1] < 1:
        raise ValueError(f"{op}: x must have at least one column, got 0")
    rows = to_numpy(op, "x", x)
    if rows.dtype != np.float32:
        raise ValueError(f"{op}: x must be float32, got {rows.dtype}")
    return rows


def format_of(d: Tokens) -> str:
    """What `d` holds: a float's name, "int8" with scales, or "codes"."""
    if isinstance(d, Bfloat16Tokens):
        return "bfloat16"
    if isinstance(d, Int8Tokens):
        return "int8"
    return "codes" if dtype_of(d) == "uint8" else dtype_of(d)


def dim_of(tokens: Tokens) -> int:
    """Values a token: eight for each byte of codes."""
    return int(tokens.shape[1]) * (8 if format_of(tokens) == "codes" else 1)


def kernel_tokens(op: str, d: Tokens) -> tuple[np.ndarray, str, np.ndarray | None]:
    """`d` as the kernels read it: rows (16-bit floats as bit patterns), format, scales."""
    if isinstance(d, Int8Tokens):
        return rows_contiguous(d.values), "int8", rows_contiguous(d.scales)
    rows = rows_contiguous(_bits(op, d) if format_of(d) == "bfloat16" else to_numpy(op, "d", d))
    return (rows.view(np.uint16) if rows.dtype == np.float16 else rows), format_of(d), None


def plain_operands(op: str, q: Array, d: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """The values that the kernels multiply, as floats: documents decoded, queries rounded as the format says."""
    query = to_numpy(op, "q", q)
    if format_of(q) == "codes":
        return plain.code_values(query), plain.code_values(to_numpy(op, "d", d))
    if format_of(d) == "bfloat16":
        return plain.bfloat16_values(plain.bfloat16_bits(query)), plain.bfloat16_values(_bits(op, d))
    if isinstance(d, Int8Tokens):
        wholes, scales = plain.whole_numbers(query, plain.whole_number_limit(dim_of(d), 128))
        return (wholes * scales).astype(query.dtype), d.to_float32()
    if format_of(d) == "codes":
        wholes, scales = plain.whole_numbers(query, plain.whole_number_limit(dim_of(d), 1))
        return (wholes * scales).astype(query.dtype), plain.code_values(to_numpy(op, "d", d))
    return query, to_numpy(op, "d", d)


def _bits(op: str, d: Tokens) -> np.ndarray:
    """The bit patterns of bfloat16 vectors, whoever holds them."""
    if isinstance(d, Bfloat16Tokens):
        return d.bits
    if is_torch(d):  # NumPy cannot take the dtype itself
        return to_numpy(op, "d", d.detach().view(sys.modules["torch"].int16)).view(np.uint16)
    return to_numpy(op, "d", d).view(np.uint16)
