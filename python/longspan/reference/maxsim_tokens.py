"""What maxsim's narrow token formats stand for, in plain NumPy."""

from __future__ import annotations

import numpy as np


def bfloat16_bits(x: np.ndarray) -> np.ndarray:
    """uint16 bit patterns of f32 values, rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), (bits >> 16).astype(np.uint16) | np.uint16(0x40), rounded)


def bfloat16_values(bits: np.ndarray) -> np.ndarray:
    """f32 values of bfloat16 bit patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def code_values(codes: np.ndarray) -> np.ndarray:
    """(rows, dim) +1 and -1 for the set and clear bits of sign codes, most significant bit first."""
    return np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1


def whole_numbers(q: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row as whole numbers in [-limit, limit] and an f32 scale (rows, 1), NaN for a row with NaN or infinity."""
    peaks = np.abs(q).max(axis=1, keepdims=True)
    scales = np.where(np.isfinite(peaks), peaks / np.float32(limit), np.float32(np.nan)).astype(np.float32)
    divisors = np.where(scales > 0, scales, np.inf).astype(np.float64)
    wholes = np.rint(np.where(np.isfinite(q), q, 0).astype(np.float64) / divisors)
    return np.clip(wholes, -limit, limit), scales


def whole_number_limit(dim: int, largest_doc_value: int) -> int:
    """The largest whole number with which a sum of `dim` products stays below 2^31, and at most 2^15 - 1."""
    return min(2**15 - 1, (2**31 - 1) // (largest_doc_value * dim))
