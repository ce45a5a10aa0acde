"""Queries whose expansion tokens nobody attends to: against attention written out, for every kind of position."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models import detect_family
from longspan.models.encoder import TextEncoder
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.expansion import ExpansionEncoder, turn_rows
from longspan.models.parts import EncoderWeights
from longspan.models.spec import ModelSpec, Rotary
from longspan.models.weights import load_weights
from longspan.packing.batch import PackedBatch, pack

HIDDEN_LIMIT = 1e-4  # the golden README's, for a float32 runtime
MASK = 7
ENGINE = OpsEngine()


def load(folder: Path) -> tuple[ModelSpec, EncoderWeights]:
    checkpoint = Checkpoint.open(folder)
    spec, names = detect_family(checkpoint).describe(checkpoint)
    return spec, load_weights(checkpoint, spec, names, ENGINE)


def batch_of(*lengths: tuple[int, int]) -> PackedBatch:
    """Rows of (own tokens, masks); from three tokens on there is a mask among a row's own, which is seen."""
    rng = np.random.default_rng(3)
    rows = []
    for own, masks in lengths:
        ids = rng.integers(10, 90, own + masks)
        ids[own:] = MASK
        if own > 2:
            ids[1] = MASK
        rows.append(ids.astype(np.int32))
    return next(pack(rows, batch_tokens=1000))


def unseen(batch: PackedBatch) -> np.ndarray:
    """(total_tokens,) bool: the masks that end a row."""
    hidden = np.zeros(len(batch.ids), bool)
    for end in batch.cu_seqlens[1:]:
        last = end - 1
        while batch.ids[last] == MASK:
            hidden[last] = True
            last -= 1
    assert hidden.any()
    return hidden


def rotated(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: bool) -> np.ndarray:
    """RoPE on (tokens, heads, head_dim), by complex numbers."""
    half = cos.shape[1]
    turned = x.copy()
    pairs = x[..., : 2 * half].reshape(*x.shape[:2], half, 2) if interleaved else None
    real, imaginary = (pairs[..., 0], pairs[..., 1]) if interleaved else (x[..., :half], x[..., half : 2 * half])
    product = (real + 1j * imaginary) * (cos[: len(x), None] + 1j * sin[: len(x), None])
    parts = [product.real, product.imag]
    turned[..., : 2 * half] = (
        np.stack(parts, -1).reshape(*x.shape[:2], 2 * half) if interleaved else np.concatenate(parts, -1)
    )
    return turned


def dense_attention(hidden: np.ndarray):
    """attention_varlen in float64, each row's scores written out, with the keys in `hidden` left out."""

    def attend(q, k, v, cu_seqlens, _, options, *, out, batch):
        softmax_scale, slopes, cos, sin, interleaved, bias_table, causal, window, _ = options
        for start, end in itertools.pairwise(cu_seqlens):
            row = slice(start, end)
            queries, keys, values = (part[row].astype(np.float64) for part in (q, k, v))
            if cos is not None:
                queries, keys = (rotated(part, cos, sin, interleaved) for part in (queries, keys))
            group = queries.shape[1] // keys.shape[1]
            keys, values = (np.repeat(part, group, axis=1) for part in (keys, values))
            scores = softmax_scale * np.einsum("ihd,jhd->hij", queries, keys)
            place = np.arange(end - start)
            distance = place[None, :] - place[:, None]
            right = 0 if causal else (window or (-1, -1))[1]
            left = (window or (-1, -1))[0]
            if slopes is not None:
                scores -= slopes[:, None, None] * np.abs(distance)
            if bias_table is not None:
                far = bias_table.shape[1] // 2
                scores += bias_table[:, np.clip(distance, -far, far) + far]
            seen = (
                ~hidden[row] & (distance >= -left if left >= 0 else True) & (distance <= right if right >= 0 else True)
            )
            scores = np.where(seen, scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            out[row] = np.einsum("hij,jhd->ihd", weights / weights.sum(-1, keepdims=True), values)
        return out

    return attend


FAMILIES = [
    "bert-minilm",
    "jina-v2-en",
    "jina-v1-t5",
    "jina-colbert-v2",
    "nomic-bert",
    "modernbert",
    "mpnet",
    "jina-v4/model",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_against_dense_attention(isa: str, family: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, weights = load(golden / family)
    batch = batch_of((1, 31), (5, 27), (31, 1), (32, 0), (3, 0), (2, 9))
    found = ExpansionEncoder(spec, weights, ENGINE, MASK).forward(batch, Workspace(ENGINE.empty)).copy()
    monkeypatch.setattr(ENGINE, "attend", dense_attention(unseen(batch)))
    truth = TextEncoder(spec, weights, ENGINE).forward(batch, Workspace(ENGINE.empty))
    np.testing.assert_allclose(found, truth, rtol=0, atol=HIDDEN_LIMIT)


@pytest.mark.parametrize("causal", [False, True])
def test_interleaved_rope_and_windows_of_two_sides(causal: bool, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No golden has these; the published queries are shorter than any published window."""
    spec, weights = load(golden / "jina-colbert-v2")
    rotary = Rotary(theta=50.0, dim=8, interleaved=True)
    layers = tuple(replace(layer, rotary=rotary, window=(20, 9)) for layer in spec.layers)
    spec = replace(spec, layers=layers, causal=causal)
    batch = batch_of((12, 20), (14, 16))
    found = ExpansionEncoder(spec, weights, ENGINE, MASK).forward(batch, Workspace(ENGINE.empty)).copy()
    monkeypatch.setattr(ENGINE, "attend", dense_attention(unseen(batch)))
    truth = TextEncoder(spec, weights, ENGINE).forward(batch, Workspace(ENGINE.empty))
    np.testing.assert_allclose(found, truth, rtol=0, atol=HIDDEN_LIMIT)


@pytest.mark.parametrize("family", FAMILIES)
def test_own_tokens_do_not_notice_the_masks(family: str, golden: Path) -> None:
    spec, weights = load(golden / family)
    batch = batch_of((5, 27))
    alone = replace(
        batch, ids=batch.ids[:5], positions=batch.positions[:5], cu_seqlens=np.array([0, 5], np.int32), max_seqlen=5
    )
    found = ExpansionEncoder(spec, weights, ENGINE, MASK).forward(batch, Workspace(ENGINE.empty))[:5]
    np.testing.assert_allclose(
        found, TextEncoder(spec, weights, ENGINE).forward(alone, Workspace(ENGINE.empty)), rtol=0, atol=HIDDEN_LIMIT
    )


def test_rows_are_turned() -> None:
    found = turn_rows(batch_of((3, 2), (2, 0)), MASK)
    assert found.turned.tolist() == [4, 3, 2, 1, 0, 6, 5]
    assert found.seen.tolist() == [2, 1, 0, 6, 5] and found.cu_seqlens_seen.tolist() == [0, 3, 5]
    assert found.cu_seqlens_seen.dtype == np.int32
