"""What an index is given, checked: one clear sentence where it is not what it must be."""

from __future__ import annotations

from typing import Final

import numpy as np

ROWS_AT_A_TIME: Final = 1024  # whose mask stays in the cache


def check_center(name: str, center: np.ndarray | None, dim: int) -> np.ndarray | None:
    if center is None:
        return None
    try:
        with np.errstate(over="ignore"):  # told below
            values = np.array(center, np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"BinaryIndex: {name} must be ({dim},) floats, got {type(center).__name__}") from None
    if values.shape != (dim,) or not np.isfinite(values).all():
        raise ValueError(f"BinaryIndex: {name} must be ({dim},) finite floats, got {values.shape}")
    values.flags.writeable = False
    return values


def check_vectors(name: str, vectors: np.ndarray, dim: int | None) -> np.ndarray:
    """(n, dim) f32, contiguous."""
    if not isinstance(vectors, np.ndarray) or vectors.dtype.kind != "f":
        got = vectors.dtype if isinstance(vectors, np.ndarray) else type(vectors).__name__
        hint = "; precision='ubinary' gives such codes" if got == np.int8 else ""
        raise TypeError(f"BinaryIndex: {name} must be a NumPy array of floats or uint8 codes, got {got}{hint}")
    if vectors.ndim != 2 or vectors.shape[1] < 1 or (dim is not None and vectors.shape[1] != dim):
        raise ValueError(f"BinaryIndex: {name} must be (n, {'dim' if dim is None else dim}), got {vectors.shape}")
    with np.errstate(over="ignore"):  # told below
        values = np.ascontiguousarray(vectors, np.float32)
    for start in range(0, len(values), ROWS_AT_A_TIME):
        part = values[start : start + ROWS_AT_A_TIME]
        if not np.isfinite(part).all():
            row = start + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            what = "a number beyond float32" if np.isfinite(vectors[row]).all() else "NaN or infinity"
            raise ValueError(f"BinaryIndex: {name} must be finite, row {row} holds {what}")
    return values


def sample_mean(name: str, sample: np.ndarray) -> np.ndarray:
    if len(sample) == 0 or not np.isfinite(sample).all():
        raise ValueError(f"BinaryIndex.learn: {name} must be at least one vector of finite floats")
    return sample.mean(axis=0, dtype=np.float64).astype(np.float32)


def int8_levels(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 levels and scales: scale = max |x| / 127, level = the nearest to x / scale, halves to even."""
    peaks = np.abs(vectors).max(axis=1, initial=0)
    scales = (peaks / np.float32(127)).astype(np.float32)
    divisors = np.where(scales > 0, scales, np.float32(1))[:, None]
    return np.clip(np.rint(vectors / divisors), -127, 127).astype(np.int8), scales


def query_batch(queries: np.ndarray) -> tuple[np.ndarray, bool]:
    """(num_queries, ...) and whether one came."""
    if not isinstance(queries, np.ndarray):
        raise TypeError(f"BinaryIndex.search: queries must be a NumPy array, got {type(queries).__name__}")
    return (queries[None], True) if queries.ndim == 1 else (queries, False)


def at_least_1(name: str, value: int) -> int:
    """`value` as Python's own int, which no product with another overflows."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"BinaryIndex.search: {name} must be an integer of at least 1, got {value!r}")
    return int(value)


def check_codes(name: str, codes: np.ndarray, dim: int) -> np.ndarray:
    """(n, ceil(dim / 8)) uint8, zeros beyond dim."""
    width = (dim + 7) // 8
    if codes.ndim != 2 or codes.shape[1] != width:
        raise ValueError(f"BinaryIndex: {name} as codes must be (n, {width}) for dim {dim}, got {codes.shape}")
    if dim % 8 and (codes[:, -1] & (0xFF >> dim % 8)).any():
        raise ValueError(f"BinaryIndex: {name} must have zeros in the bits beyond dim {dim}")
    return codes
