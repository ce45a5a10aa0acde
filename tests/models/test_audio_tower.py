"""The audio tower's parts against plain loops: chunks, convolutions as products, sinusoids, pooled pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from longspan.models.audio_spec import StemSpec
from longspan.models.audio_tower import AudioTower, select_pairs, sinusoids, taps_of
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import EncoderWeights, Product
from longspan.models.spec import ModelSpec
from longspan.packing.batch import pack
from longspan.packing.media import Mel

MELS, WIDTH, CHUNK = 5, 8, 12
LENGTHS = [1, 2, 3, 11, 12, 13, 14, 23, 24, 25, 47, 50]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def plain_stem(frames: np.ndarray, first: np.ndarray, second: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Chunk by chunk, frame by frame; weights (out, in, 3)."""
    rows = []
    for start in range(0, len(frames), CHUNK):
        x = frames[start : start + CHUNK].astype(np.float64)
        for weights, bias, step in ((first, biases[0], 1), (second, biases[1], 2)):
            padded = np.pad(x, ((1, 1), (0, 0)))
            at = range(0, len(x), step)
            x = gelu(np.stack([sum(weights[:, :, k] @ padded[t + k] for k in range(3)) + bias for t in at]))
        for place, row in enumerate(x):
            angles = [place * math.exp(-k * math.log(10000) / (WIDTH // 2 - 1)) for k in range(WIDTH // 2)]
            rows.append(row + np.concatenate([np.sin(angles), np.cos(angles)]))
    return np.stack(rows)


def stem_tower(first: np.ndarray, second: np.ndarray, biases: np.ndarray) -> AudioTower:
    """A tower without layers: what leaves it is what its stem makes."""
    spec = ModelSpec(
        family="stem", hidden_size=WIDTH, layers=(), num_heads=1, head_dim=WIDTH, intermediate_size=WIDTH,
        vocab_size=0, max_tokens=0, norm="layer_norm", norm_eps=1e-5, activation="gelu", is_prenorm=True,
        stem=StemSpec(MELS, CHUNK),
    )  # fmt: skip
    engine = CpuEngine()
    stem = tuple(
        Product(engine.pack([np.ascontiguousarray(own.transpose(0, 2, 1)).reshape(len(own), -1)], [bias]))
        for own, bias in zip((first, second), biases)
    )
    weights = EncoderWeights(np.empty((0, WIDTH), np.float32), None, None, None, None, (), None, stem=stem)
    return AudioTower(spec, weights, engine)


def test_convolutions_restart_in_every_chunk(isa: str) -> None:
    rng = np.random.default_rng(3)
    first = rng.standard_normal((WIDTH, MELS, 3)).astype(np.float32)
    second = rng.standard_normal((WIDTH, WIDTH, 3)).astype(np.float32)
    biases = rng.standard_normal((2, WIDTH)).astype(np.float32)
    tower = stem_tower(first, second, biases)
    sounds = [Mel(rng.standard_normal((length, MELS)).astype(np.float32)) for length in LENGTHS]
    rows = [np.arange(tower.stem.rows(length)) for length in LENGTHS]
    for batch in pack(rows, batch_tokens=30):
        own = [sounds[index] for index in batch.indices]
        found = tower.forward(tower.attach_sounds(batch, own), Workspace(tower.engine.empty))
        truth = np.concatenate([plain_stem(sound.values, first, second, biases) for sound in own])
        np.testing.assert_allclose(found, truth, rtol=0, atol=2e-5)


def test_rows_and_tokens_of_every_length() -> None:
    stem = StemSpec(128, 200)
    for frames in range(1, 3001):
        rows = (frames - 1) // 2 + 1
        assert (stem.rows(frames), stem.tokens(frames)) == (rows, rows // 2)
    assert stem.tokens(3000) == 750


@pytest.mark.parametrize("frames", LENGTHS)
def test_taps(frames: int) -> None:
    taps = taps_of(frames, CHUNK)

    def near(t: int) -> list[int]:
        inside = [0 <= n < frames and n // CHUNK == t // CHUNK for n in (t - 1, t, t + 1)]
        return [n if ok else -1 for n, ok in zip((t - 1, t, t + 1), inside)]

    assert taps.frames.tolist() == [near(t) for t in range(frames)]
    starts = [t for t in range(frames) if t % CHUNK % 2 == 0]
    assert taps.rows.tolist() == [near(t) for t in starts]
    assert taps.places.tolist() == [t % CHUNK // 2 for t in starts]
    assert taps.chunks.tolist() == [len([t for t in starts if t // CHUNK == c]) for c in range(-(-frames // CHUNK))]


def test_sinusoids() -> None:
    table = sinusoids(100, 1280)
    assert table.shape == (100, 1280) and table.dtype == np.float32
    for place, column in ((0, 0), (1, 0), (99, 0), (7, 639), (99, 320)):
        angle = place * 10000 ** (-column / 639)
        np.testing.assert_allclose(table[place, [column, column + 640]], [np.sin(angle), np.cos(angle)], atol=5e-6)


def test_pairs_cross_chunks_and_an_odd_row_falls_away() -> None:
    rows = [np.arange(7), np.arange(1, 5), np.arange(2, 3)]
    [batch] = pack(rows, batch_tokens=100)
    selection = select_pairs(batch)
    assert selection.tokens.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert selection.num_results == 5
