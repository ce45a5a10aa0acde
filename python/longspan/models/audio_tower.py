"""An audio tower: log-mel frames through two convolutions to rows of an encoder's forward pass, chunk by chunk, and
pairs of rows that leave it as tokens. Source: Qwen2.5-Omni, arXiv:2503.20215."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longspan.models.encoder import TextEncoder
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import EncoderWeights, Norm, Product
from longspan.models.spec import ModelSpec
from longspan.packing.batch import PackedBatch
from longspan.packing.media import Mel, SoundBatch, of_batch
from longspan.packing.selection import Selection

CACHED_LENGTHS = 16  # of sounds whose taps are kept: 30 bytes a frame
SLOWEST = 10000.0  # frames of a turn of the slowest sinusoid, over 2 pi


class AudioTower(TextEncoder):
    """A TextEncoder whose rows are pairs of frames: `attach_sounds` gives a batch its sounds."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights, engine: OpsEngine) -> None:
        super().__init__(spec, weights, engine)
        assert spec.stem is not None
        self.stem = spec.stem
        self._sinusoids = engine.table(sinusoids(self.stem.rows(self.stem.chunk), spec.hidden_size))

    def attach_sounds(self, batch: PackedBatch, sounds: Sequence[Mel]) -> SoundBatch:
        """The batch with its frames; sounds in the order of its rows; all on the host."""
        taps = [taps_of(len(sound.values), self.stem.chunk) for sound in sounds]
        starts = np.cumsum([0, *(len(sound.values) for sound in sounds)])
        zeros = np.zeros((1, self.stem.num_mels), np.float32)
        return SoundBatch(
            **of_batch(batch),
            frames=np.concatenate([*(sound.values for sound in sounds), zeros]),
            frame_taps=np.concatenate([_moved(own.frames, start) for own, start in zip(taps, starts)]),
            row_taps=np.concatenate([_moved(own.rows, start) for own, start in zip(taps, starts)]),
            row_places=np.concatenate([own.places for own in taps]),
            cu_seqlens_chunks=np.cumsum([0, *np.concatenate([own.chunks for own in taps])], dtype=np.int32),
        )

    def _embed(self, batch: PackedBatch, x: np.ndarray, workspace: Workspace) -> None:
        """x = GELU(conv(GELU(conv(frames)))) + the sinusoids of a row's place; both convolutions are products of three
        neighbours side by side."""
        engine, (first, second) = self.engine, self.weights.stem
        assert isinstance(batch, SoundBatch)
        size = len(batch.frames) - 1
        inner = workspace.take("frames", size + 1, self.spec.hidden_size)
        engine.multiply(_neighbours(batch.frames, batch.frame_taps), first, None, activation="gelu", out=inner[:size])
        inner[size] = 0  # beyond a chunk
        engine.multiply(_neighbours(inner, batch.row_taps), second, None, activation="gelu", out=x)
        engine.add_rows(self._sinusoids, batch.row_places, out=x)


@dataclass(frozen=True, slots=True)
class PooledPairs:
    """A tail: the mean of each two rows, normed, through a task's product: one token a pair. Those of several tasks lie
    side by side."""

    norm: Norm
    connectors: tuple[Product, ...]
    spec: ModelSpec
    engine: OpsEngine

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        engine, spec = self.engine, self.spec
        pooled = pooled_pairs(hidden, self.norm, selection, spec, engine)
        parts = []
        for connector in self.connectors:
            parts.append(engine.empty(len(pooled), connector.weight.out_features))
            engine.multiply(pooled, connector, None, out=parts[-1])
        return parts[0] if len(parts) == 1 else engine.side_by_side(parts)


def pooled_pairs(
    hidden: np.ndarray, norm: Norm, selection: Selection, spec: ModelSpec, engine: OpsEngine
) -> np.ndarray:
    """(num_results, hidden_size): the norm of the mean of two rows each."""
    rows = hidden[selection.tokens]
    means = (rows[0::2] + rows[1::2]) * 0.5
    normed = engine.empty(*means.shape)
    engine.norm(means, norm, spec.norm, spec.norm_eps, out=normed)
    return normed


def select_pairs(batch: PackedBatch) -> Selection:
    """Rows 2 i and 2 i + 1 of each sound; an odd last row falls away."""
    lengths = np.diff(batch.cu_seqlens)
    tokens = [np.arange(start, start + length // 2 * 2) for start, length in zip(batch.cu_seqlens, lengths)]
    return Selection(int((lengths // 2).sum()), np.concatenate(tokens).astype(np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """What a sound's frames and rows are made of: see `SoundBatch`; counted from the sound's first frame."""

    frames: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    chunks: np.ndarray  # rows of each chunk


@functools.lru_cache(CACHED_LENGTHS)
def taps_of(frames: int, chunk: int) -> Taps:
    """Of a sound of so many frames, in chunks of `chunk`."""
    at = np.arange(frames, dtype=np.int32)
    centres = at[at % chunk % 2 == 0]
    chunks = np.bincount(centres // chunk).astype(np.int32)
    return Taps(_around(at, frames, chunk), _around(centres, frames, chunk), centres % chunk // 2, chunks)


def _around(centres: np.ndarray, frames: int, chunk: int) -> np.ndarray:
    """(n, 3) int32: each frame between its neighbours; -1 for one in another chunk, or none."""
    near = centres[:, None] + np.array([-1, 0, 1], np.int32)
    is_inside = (near >= 0) & (near < frames) & (near // chunk == centres[:, None] // chunk)
    return np.where(is_inside, near, np.int32(-1))


def _moved(taps: np.ndarray, start: int) -> np.ndarray:
    return np.where(taps < 0, taps, taps + np.int32(start))


def _neighbours(values: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """(n, 3 * width): the rows of `values` that `taps` names, side by side."""
    return values[taps].reshape(len(taps), -1)


def sinusoids(length: int, width: int) -> np.ndarray:
    """(length, width) f32: [sin(t s_k), cos(t s_k)], s_k = 10000^(-k / (width / 2 - 1)), halves side by side; s_k and
    the angles rounded to float32, as the published class does."""
    half = width // 2
    speeds = np.exp(np.float32(-math.log(SLOWEST) / (half - 1)) * np.arange(half, dtype=np.float32))
    angles = (np.arange(length, dtype=np.float32)[:, None] * speeds.astype(np.float32)).astype(np.float64)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
