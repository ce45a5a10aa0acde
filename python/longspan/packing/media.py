"""Batches whose rows are no token ids alone: patches of images, frames of sound, and texts in which features stand.

Both know for each row by which angles RoPE turns it, as its place in the row alone does not say.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from longspan.packing.batch import PackedBatch


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """An image or a video, cut up.

    Attributes:
        values: (patches, numbers of a patch) f32; patches that leave a tower as one token lie one behind the other.
        grid: frames, rows and columns of patches.
    """

    values: np.ndarray
    grid: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Mel:
    """A sound, as log-mel frames.

    Attributes:
        values: (frames, mels) f32.
        cut_samples: samples, of the model's rate, behind the longest sound that it reads; they were left out.
    """

    values: np.ndarray
    cut_samples: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PatchBatch(PackedBatch):
    """Images as rows of patches.

    Attributes:
        pixels: (total_patches, numbers of a patch) f32, in the order of the rows.
        pixel_rows: (total_patches,) int32, the rows that are patches; None where all are.
        cos, sin: (total_tokens, angles) f32, of each row; None where a model has no RoPE.
        cu_seqlens_frames: (frames + 1,) int32, the rows that see each other: those of a frame of an image.
        cu_seqlens_windows: (windows + 1,) int32, those that do in a windowed layer; None where there is none.
        cell_order: (total_patches,) int32, the rows in the order in which the images came; None where they lie so.
        taps, tap_weights: (total_patches, 4) int32 and f32: the learned places between which each patch lies, and how
            much of each it takes; None where a patch has one place, or none.
    """

    pixels: np.ndarray
    cu_seqlens_frames: np.ndarray
    pixel_rows: np.ndarray | None = None
    cos: np.ndarray | None = None
    sin: np.ndarray | None = None
    cu_seqlens_windows: np.ndarray | None = None
    cell_order: np.ndarray | None = None
    taps: np.ndarray | None = None
    tap_weights: np.ndarray | None = None

    @property
    def fills(self) -> bool:
        return False

    @property
    def angles(self) -> tuple[np.ndarray, np.ndarray] | None:
        return None if self.cos is None or self.sin is None else (self.cos, self.sin)

    def offsets(self, is_windowed: bool) -> np.ndarray:
        windows = self.cu_seqlens_windows
        return self.cu_seqlens_frames if not is_windowed or windows is None else windows


@dataclass(frozen=True, slots=True, eq=False)
class SoundBatch(PackedBatch):
    """Sounds as rows of an audio tower, which begin as what two convolutions over three neighbours make of frames.

    Attributes:
        frames: (total_frames + 1, mels) f32; the last one is zeros, what lies beyond a chunk.
        frame_taps: (total_frames, 3) int32, each frame with its two neighbours; -1 for the zeros.
        row_taps: (total_tokens, 3) int32, the frames that make up each row.
        row_places: (total_tokens,) int32, its place in its chunk.
        cu_seqlens_chunks: (chunks + 1,) int32, the rows that see each other.
    """

    frames: np.ndarray
    frame_taps: np.ndarray
    row_taps: np.ndarray
    row_places: np.ndarray
    cu_seqlens_chunks: np.ndarray

    @property
    def fills(self) -> bool:
        return False

    def offsets(self, is_windowed: bool) -> np.ndarray:
        return self.cu_seqlens_chunks


@dataclass(frozen=True, slots=True, eq=False)
class MediaRow:
    """A text, some of whose tokens have vectors that are not in the table of embeddings.

    Attributes:
        ids: (n,) int32.
        pooled: (n,) bool, the tokens that a mean counts.
        features: (m, hidden_size) f32.
        feature_places: (m,) integers, where in the row those vectors stand.
        coordinates: (n, axes) f32, the tokens' places; None where they are 0, 1, 2 ...
    """

    ids: np.ndarray
    pooled: np.ndarray
    features: np.ndarray
    feature_places: np.ndarray
    coordinates: np.ndarray | None


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch(PackedBatch):
    """Texts, some of whose tokens have vectors that are not in the table of embeddings.

    Attributes:
        features: (n, hidden_size) f32.
        feature_rows: (n,) int32, the rows that begin as those vectors.
        cos, sin: (total_tokens, angles) f32, of each row; None where its place in the text says all.
    """

    features: np.ndarray
    feature_rows: np.ndarray
    cos: np.ndarray | None = None
    sin: np.ndarray | None = None

    @property
    def fills(self) -> bool:
        return False

    @property
    def angles(self) -> tuple[np.ndarray, np.ndarray] | None:
        return None if self.cos is None or self.sin is None else (self.cos, self.sin)


def of_batch(batch: PackedBatch) -> dict[str, Any]:
    """The fields of a plain batch, to make another kind with."""
    return {field.name: getattr(batch, field.name) for field in fields(PackedBatch)}
