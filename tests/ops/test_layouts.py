"""Norms and attention on arrays that lie in memory in every way that NumPy knows: the bits of a plain copy's result.

LONGSPAN_LONG_TESTS=1 tries thousands of each.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import inputs
from longspan import ops

CASES = 3000 if os.environ.get("LONGSPAN_LONG_TESTS") == "1" else 300
DIMS = [1, 2, 7, 8, 15, 16, 17, 63, 64, 65, 96, 384, 1000]


def laid_out(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:  # noqa: PLR0911  (a layout each)
    """The same values: packed, by columns, with gaps, backwards, unaligned, read-only, or a part of something wider."""
    kind, shape = int(rng.integers(9)), array.shape
    if kind == 0:
        return array
    if kind == 1:
        return np.asfortranarray(array)
    if kind in (2, 3):
        axis = -1 if kind == 2 else 0
        step = (Ellipsis, slice(None, None, 2)) if kind == 2 else (slice(None, None, 2),)
        view = np.repeat(np.full_like(array, np.nan), 2, axis)[step]
        view[...] = array
        return view
    if kind == 4:
        return array[::-1].copy()[::-1]
    if kind == 5:
        return array[..., ::-1].copy()[..., ::-1]
    if kind == 6:
        raw = np.zeros(array.nbytes + 1, np.uint8)
        raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
        return raw[1:].view(array.dtype).reshape(shape)
    if kind == 7:
        copy = array.copy()
        copy.flags.writeable = False
        return copy
    wide = np.full((*shape[:-1], shape[-1] + 5), np.nan, array.dtype)
    wide[..., 3:-2] = array
    return wide[..., 3:-2]


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms(isa: str, name: str) -> None:
    rng, op = inputs.rng(7), getattr(ops, name)
    for _ in range(CASES):
        rows, dim = int(rng.integers(40)), int(rng.choice(DIMS))
        x = rng.normal(size=(rows, dim)).astype(np.float32) * np.float32(10.0 ** rng.integers(-6, 6))
        residual = rng.normal(size=(rows, dim)).astype(np.float32) if rng.random() < 0.5 else None
        scales = [rng.normal(size=dim).astype(np.float32) for _ in range(2 if name == "layer_norm" else 1)]
        wanted = op(x, *scales, eps=1e-5, residual=residual)
        odd = laid_out(rng, x), *(np.repeat(scale, 2)[::2] if rng.random() < 0.5 else scale for scale in scales)
        how = {"eps": 1e-5, "residual": None if residual is None else laid_out(rng, residual)}
        np.testing.assert_array_equal(op(*odd, **how), wanted, f"{rows} {dim} {odd[0].strides}")
        out = laid_out(rng, np.full_like(x, np.nan))
        if out.flags.writeable:
            op(*odd, **how, out=out)
            np.testing.assert_array_equal(out, wanted, f"{rows} {dim} into {out.strides}")


def test_attention(isa: str) -> None:
    rng = inputs.rng(8)
    for _ in range(CASES):
        offsets = inputs.cu_seqlens(rng.integers(0, 30, int(rng.integers(1, 5))).tolist())
        heads, dim, total = int(rng.choice([1, 2, 4])), int(rng.choice([8, 16, 24, 32, 64, 80])), int(offsets[-1])
        shared = int(rng.choice([own for own in (1, 2, 4) if heads % own == 0]))
        q, k, v = (rng.normal(size=(total, own, dim)).astype(np.float32) for own in (heads, shared, shared))
        causal = bool(rng.random() < 0.3)
        wanted = ops.attention_varlen(q, k, v, offsets, offsets, causal=causal)
        joined = np.concatenate([q, k, v], axis=1)
        odd = (
            np.split(joined, [heads, heads + shared], 1)
            if rng.random() < 0.3
            else [laid_out(rng, a) for a in (q, k, v)]
        )
        found = ops.attention_varlen(*odd, offsets, offsets, causal=causal)
        np.testing.assert_array_equal(found, wanted, f"{offsets} {[one.strides for one in odd]}")
