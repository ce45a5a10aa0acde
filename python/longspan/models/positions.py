"""The tables by which positions enter attention, computed as the published implementations do, in their precision."""

from __future__ import annotations

import math

import numpy as np

from longspan.models.spec import RelativeBias, Rotary


def alibi_slopes(num_heads: int) -> np.ndarray:
    """(num_heads,) f32: 2^(-8 k / p) for k = 1..p, p the largest power of two up to num_heads; further heads take the
    odd-numbered slopes of a model with 2 p heads. Source: arXiv:2108.12409 and its code.
    """
    power = 2 ** int(math.log2(num_heads))
    regular = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    further = 2.0 ** (-8 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([regular, further])[:num_heads].astype(np.float32)


def rotary_tables(rotary: Rotary, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, (length, rotary.dim / 2) f32 each.

    Frequencies, angles and tables are rounded to float32 one after the other, as the original classes do: exact tables
    would move hidden states by 1e-5 at a thousand tokens.
    """
    exponents = np.arange(0, rotary.dim, 2) / rotary.dim
    frequencies = (1 / rotary.theta**exponents).astype(np.float32)
    angles = np.arange(length, dtype=np.float32)[:, None] * frequencies
    wide = angles.astype(np.float64)
    return np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)


def relative_bias_table(weights: np.ndarray, bias: RelativeBias) -> np.ndarray:
    """(num_heads, 2 * max_distance + 1) f32 by distance j - i from -max_distance: the weights (num_buckets, num_heads)
    spread over the distances that fall into each bucket. Source: T5, arXiv:1910.10683.
    """
    distance = np.arange(-bias.max_distance, bias.max_distance + 1)
    half = bias.num_buckets // 2
    exact = half // 2
    size = np.abs(distance)
    # In float32, as the original: at exact powers the rounding decides the bucket.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(bias.max_distance / exact)
    )
    far = np.minimum(half - 1, exact + (ratio * np.float32(half - exact)).astype(np.int64))
    bucket = np.where(size < exact, size, far) + half * (distance > 0)
    return np.ascontiguousarray(weights[bucket].T, dtype=np.float32)
