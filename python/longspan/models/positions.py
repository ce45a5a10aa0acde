"""The tables by which positions enter attention, computed as the published implementations do, in their precision."""

from __future__ import annotations

import math

import numpy as np

from longspan.models.spec import RelativeBias, Rotary, RotaryScaling


def alibi_slopes(num_heads: int) -> np.ndarray:
    """(num_heads,) f32: 2^(-8 k / p) for k = 1..p, p the largest power of two up to num_heads; further heads take the
    odd-numbered slopes of a model with 2 p heads. Source: arXiv:2108.12409 and its code.
    """
    power = 2 ** int(math.log2(num_heads))
    regular = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    further = 2.0 ** (-8 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([regular, further])[:num_heads].astype(np.float32)


def rotary_tables(rotary: Rotary, length: int, text_tokens: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, (length, rotary.dim / 2) f32 each; `text_tokens`: the text's length, where frequencies go by it.

    Frequencies, angles and tables are rounded to float32 one after the other, as the original classes do: exact tables
    would move hidden states by 1e-5 at a thousand tokens.
    """
    frequencies = rotary_frequencies(rotary, text_tokens).astype(np.float32)
    return _turns(rotary, np.arange(length, dtype=np.float32)[:, None] * frequencies)


def rotary_rows(rotary: Rotary, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, (tokens, rotary.dim / 2) f32 each, of tokens at `coordinates`, (tokens, axes) f32: angle i goes by
    the coordinate of its section. Where all coordinates are a token's place, the bits are those of `rotary_tables`.
    """
    axis = np.repeat(np.arange(len(rotary.sections)), rotary.sections)
    frequencies = rotary_frequencies(rotary, 0).astype(np.float32)
    return _turns(rotary, np.ascontiguousarray(coordinates[:, axis]) * frequencies)


def _turns(rotary: Rotary, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = angles.astype(np.float64)
    cos, sin = np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)
    factor = np.float32(1 if rotary.scaling is None else rotary.scaling.attention_factor)
    return (cos, sin) if factor == 1 else (cos * factor, sin * factor)


def rotary_frequencies(rotary: Rotary, text_tokens: int) -> np.ndarray:
    """(rotary.dim / 2,) f64, scaled as `RotaryScaling` says; with frequencies of its own each section begins anew."""
    dim, theta, scaling = rotary.dim, rotary.theta, rotary.scaling
    exponents = np.arange(0, dim, 2) / dim
    if rotary.has_own_frequencies:
        exponents = np.concatenate([np.arange(0, 2 * section, 2) / (2 * section) for section in rotary.sections])
    if scaling is None:
        return 1 / theta**exponents
    factor = scaling.factor
    if scaling.kind == "linear":
        return 1 / theta**exponents / factor
    if scaling.kind == "ntk":
        return (theta * factor) ** -exponents / factor ** (2 / dim)
    if scaling.kind == "dynamic":
        stretch = factor * max(text_tokens, scaling.trained_tokens) / scaling.trained_tokens - (factor - 1)
        return (theta * stretch ** (dim / (dim - 2))) ** -exponents
    kept = 1 - _yarn_ramp(rotary, scaling)
    own = 1 / theta**exponents
    return own / factor * (1 - kept) + own * kept


def _yarn_ramp(rotary: Rotary, scaling: RotaryScaling) -> np.ndarray:
    """(rotary.dim / 2,): 0 where a frequency stays, 1 where it is divided by the factor."""

    def place(turns: float) -> float:
        """Where a frequency makes so many turns within the trained length."""
        ratio = scaling.trained_tokens / (turns * 2 * math.pi)
        return rotary.dim * math.log(ratio) / (2 * math.log(rotary.theta))

    low, high = place(scaling.beta_fast), place(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary.dim - 1)
    if low == high:
        high += 0.001
    return np.clip((np.arange(rotary.dim // 2) - low) / (high - low), 0, 1)


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
