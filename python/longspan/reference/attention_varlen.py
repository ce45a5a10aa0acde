"""attention_varlen in plain NumPy, in the dtype of `q`: full score matrices, one sequence and one head at a time."""

from __future__ import annotations

from typing import Literal

import numpy as np

KEYS_WORTH_BYTES = 256  # from so many keys on "int8" makes whole numbers of q and k
BLOCK_KEYS = 64  # whose mean is left out of them
ROTATED = 64  # values at most that are rotated together


def attention_varlen(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    cu_seqlens_q: np.ndarray,
    cu_seqlens_k: np.ndarray,
    *,
    slopes: np.ndarray | None = None,
    cos: np.ndarray | None = None,
    sin: np.ndarray | None = None,
    interleaved: bool = False,
    rotary_by_key: bool = False,
    bias_table: np.ndarray | None = None,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    softmax_scale: float | None = None,
    dtype: Literal["float32", "bfloat16", "int8"] = "float32",
) -> np.ndarray:
    """softmax(rope(q) rope(k)^T * softmax_scale + bias) v; arguments as `longspan.ops.attention_varlen`.

    With dtype "bfloat16", what the products take is rounded to bf16; everything is still computed in the dtype of `q`.
    With "int8" too, but q and k of sequences of 256 keys and more become whole numbers, see `_whole_scores`.
    """
    operand = np.asarray if dtype == "float32" else round_to_bf16
    scale = q.dtype.type(q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale)
    group = q.shape[1] // k.shape[1]
    out = np.zeros_like(q, order="C")
    for q_start, q_end, k_start, k_end in zip(cu_seqlens_q, cu_seqlens_q[1:], cu_seqlens_k, cu_seqlens_k[1:]):
        j = np.arange(k_end - k_start)
        i = np.arange(q_end - q_start) + (len(j) - (q_end - q_start))
        visible = _visible(i, j, causal, window)
        seen = visible.any(axis=1)
        for head in range(q.shape[1]):
            query, key = q[q_start:q_end, head], k[k_start:k_end, head // group]
            if cos is not None and sin is not None:
                first = k_start if rotary_by_key else 0
                places = ((query, first + i), (key, first + j))
                query, key = (_rotate(x, cos[at], sin[at], interleaved) for x, at in places)
            if dtype == "int8" and len(key) >= KEYS_WORTH_BYTES:
                scores = _whole_scores(query, key) * scale
            else:
                scores = operand(query) @ operand(key).T * scale
            if slopes is not None:
                scores = scores - slopes[head] * np.abs(i[:, None] - j).astype(q.dtype)
            if bias_table is not None:
                reach = bias_table.shape[1] // 2
                scores = scores + bias_table[head, np.clip(j - i[:, None], -reach, reach) + reach]
            weights = operand(_weights(np.where(visible, scores, -np.inf)[seen]))
            sums = weights.sum(axis=-1, keepdims=True)
            out[q_start:q_end, head][seen] = weights @ operand(v[k_start:k_end, head // group]) / sums
    return out


def _whole_scores(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """(queries, keys): <q, m> + <q, k - m>, m the mean of a block's keys; the second product by whole numbers."""
    numbers, scales = _whole(_rotated(query))
    scores = np.empty((len(query), len(key)), query.dtype)
    for first in range(0, len(key), BLOCK_KEYS):
        block = key[first : first + BLOCK_KEYS]
        mean = block.mean(axis=0)
        key_numbers, key_scales = _whole(_rotated(block - mean))
        products = numbers @ key_numbers.T * scales * key_scales.T
        scores[:, first : first + len(block)] = query @ mean[:, None] + products
    return scores


def _whole(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -127 to 127, and each row's scale: rows ~ numbers * scale."""
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), rows.dtype.type(2.0**-100))
    return np.rint(rows * (rows.dtype.type(127) / largest)), largest * rows.dtype.type(1 / 127)


def _rotated(rows: np.ndarray) -> np.ndarray:
    """Blocks of each row times H / sqrt(n), H the Walsh-Hadamard matrix; n the largest power of two that is left."""
    out, first = rows.copy(), 0
    while first < rows.shape[1]:
        size = min(ROTATED, 1 << (rows.shape[1] - first).bit_length() - 1)
        bits = np.arange(size)
        shared = (bits[:, None] & bits)[..., None] >> np.arange(size.bit_length()) & 1
        matrix = (1 - 2 * (shared.sum(axis=-1) % 2)) / np.sqrt(size)
        out[:, first : first + size] = rows[:, first : first + size] @ matrix.astype(rows.dtype)
        first += size
    return out


def _visible(i: np.ndarray, j: np.ndarray, causal: bool, window: tuple[int, int] | None) -> np.ndarray:
    """(queries, keys) bool: which key each query sees."""
    ahead = j - i[:, None]
    visible = np.ones(ahead.shape, bool)
    if causal:
        visible &= ahead <= 0
    left, right = (-1, -1) if window is None else window
    if left >= 0:
        visible &= ahead >= -left
    if right >= 0:
        visible &= ahead <= right
    return visible


def _rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: bool) -> np.ndarray:
    """RoPE: each pair (a, b) of a row (tokens, head_dim) becomes (a cos - b sin, b cos + a sin)."""
    half = cos.shape[1]
    first, second = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
        if interleaved
        else (
            slice(0, half),
            slice(half, 2 * half),
        )
    )
    out = x.copy()
    out[:, first] = x[:, first] * cos - x[:, second] * sin
    out[:, second] = x[:, second] * cos + x[:, first] * sin
    return out


def _weights(scores: np.ndarray) -> np.ndarray:
    """exp(scores - their maximum), over the last axis."""
    return np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))


def round_to_bf16(x: np.ndarray) -> np.ndarray:
    """To the nearest bf16 value, ties to even; in the dtype of `x`."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(x.dtype)
