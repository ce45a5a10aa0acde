"""Random inputs that tests and benches share: seeded, of ordinary size, never zeros."""

from __future__ import annotations

import numpy as np

AWKWARD = (0, 1, 7, 63, 64, 65, 200)
RAGGED = ([1], [0], [64], [65, 1, 63], [3, 0, 200, 0, 1])


def rng(*seed: int) -> np.random.Generator:
    """A generator for this case alone."""
    return np.random.default_rng([20260131, *seed])


def normal(shape: tuple[int, ...], *seed: int, dtype: type = np.float32) -> np.ndarray:
    """Standard normal values."""
    return rng(*shape, *seed).standard_normal(shape).astype(dtype)


def cu_seqlens(lengths: list[int]) -> np.ndarray:
    """int32 offsets of packed sequences."""
    return np.cumsum([0, *lengths], dtype=np.int32)


def odd_layouts(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same values in memory layouts that a caller may come with."""
    wide = np.full((*array.shape[:-1], array.shape[-1] * 2 + 3), np.nan, array.dtype)
    wide[..., : array.shape[-1]] = array
    sparse = np.full((*array.shape[:-1], array.shape[-1] * 2), np.nan, array.dtype)
    sparse[..., ::2] = array
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return {
        "contiguous": array,
        "strided rows": wide[..., : array.shape[-1]],
        "strided columns": sparse[..., ::2],
        "unaligned": raw[1:].view(array.dtype).reshape(array.shape),
        "column-major": np.asfortranarray(array),
    }
