"""Vision towers: images as packed rows of patches through the encoder's forward pass, and the cells of patches that
leave it joined to tokens."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longspan.models.encoder import TextEncoder
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import Merger
from longspan.models.positions import rotary_rows
from longspan.models.spec import ModelSpec, Rotary
from longspan.models.vision_spec import PatchSpec
from longspan.packing.batch import PackedBatch
from longspan.packing.media import PatchBatch, Patches, of_batch
from longspan.packing.selection import Selection

CACHED_GRIDS = 16  # sizes of images whose places are kept: 100 bytes to 400 a patch


class Tower(TextEncoder):
    """A TextEncoder whose rows are patches: `attach_images` gives a batch its images. A row's ids are its places."""

    def attach_images(self, batch: PackedBatch, images: Sequence[Patches]) -> PatchBatch:
        """The batch with its pixels, angles and windows; images in the order of its rows; all on the host."""
        spec = _patches_of(self.spec)
        places = [places_of(image.grid, spec, _rotary_of(self.spec)) for image in images]
        starts = batch.cu_seqlens[:-1]
        pixels = [image.values if at.order is None else image.values[at.order] for image, at in zip(images, places)]
        pixel_rows = None
        if spec.has_class_token:
            is_patch = np.ones(len(batch.ids), bool)
            is_patch[starts] = False
            pixel_rows = np.flatnonzero(is_patch).astype(np.int32)
        back = [_inverse(at.order, len(image.values)) + start for image, at, start in zip(images, places, starts)]
        windows = _joined([at.windows for at in places])
        has_order = any(at.order is not None for at in places)
        return PatchBatch(
            **of_batch(batch),
            pixels=np.concatenate(pixels),
            pixel_rows=pixel_rows,
            cos=_joined([at.cos for at in places]),
            sin=_joined([at.sin for at in places]),
            cu_seqlens_frames=_offsets(np.concatenate([at.frames for at in places])),
            cu_seqlens_windows=None if windows is None else _offsets(windows),
            cell_order=np.concatenate(back).astype(np.int32) if has_order else None,
            taps=_joined([at.taps for at in places]),
            tap_weights=_joined([at.tap_weights for at in places]),
        )

    def _embed(self, batch: PackedBatch, x: np.ndarray, workspace: Workspace) -> None:
        """x = each patch times the weights + its learned place; the class token before an image's patches."""
        engine, weights, product = self.engine, self.weights, self.weights.patches
        assert isinstance(batch, PatchBatch) and product is not None
        if batch.pixel_rows is None:
            engine.multiply(batch.pixels, product, None, out=x)
        else:
            rows = workspace.take("patches", len(batch.pixels), self.spec.hidden_size)
            engine.multiply(batch.pixels, product, None, out=rows)
            engine.put(rows, batch.pixel_rows, out=x)
        if weights.class_token is not None:
            engine.put(weights.class_token, batch.cu_seqlens[:-1], out=x)
        if batch.taps is not None and batch.tap_weights is not None:
            assert weights.position_embeddings is not None
            engine.add_mixed(weights.position_embeddings, batch.taps, batch.tap_weights, out=x)
        elif weights.position_embeddings is not None:
            engine.add_rows(weights.position_embeddings, batch.positions, out=x)


@dataclass(frozen=True, slots=True)
class Merged:
    """A tail: each cell's patches normed and joined, through a merger's two products: one token a cell. Those of
    several mergers lie side by side."""

    mergers: tuple[Merger, ...]
    spec: ModelSpec
    engine: OpsEngine

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        rows = hidden if selection.tokens is None else hidden[selection.tokens]
        parts = [self._merged(rows, merger) for merger in self.mergers]
        return parts[0] if len(parts) == 1 else self.engine.side_by_side(parts)

    def _merged(self, rows: np.ndarray, merger: Merger) -> np.ndarray:
        engine, spec = self.engine, self.spec
        normed = engine.empty(*rows.shape)
        engine.norm(rows, merger.norm, spec.norm, spec.norm_eps, out=normed)
        assert spec.patches is not None
        joined = normed.reshape(-1, spec.hidden_size * spec.patches.cell)
        inner = engine.empty(len(joined), merger.up.weight.out_features)
        engine.multiply(joined, merger.up, None, activation="gelu", out=inner)
        tokens = engine.empty(len(joined), merger.down.weight.out_features)
        engine.multiply(inner, merger.down, None, out=tokens)
        return tokens


def select_cells(batch: PackedBatch, cell: int) -> Selection:
    """All patches, in the order in which their images came."""
    order = batch.cell_order if isinstance(batch, PatchBatch) else None
    return Selection(len(batch.ids) // cell, order)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where an image's rows stand.

    Attributes:
        order: (patches,) int64, the patches in the order of the rows; None: as they came.
        cos, sin: (rows, angles) f32, or None without RoPE.
        frames: rows of each frame.
        windows: rows of each window, in the order of the rows; None where the tower has none.
        taps, tap_weights: (patches, 4), as `PatchBatch` has them.
    """

    order: np.ndarray | None
    cos: np.ndarray | None
    sin: np.ndarray | None
    frames: np.ndarray
    windows: np.ndarray | None
    taps: np.ndarray | None = None
    tap_weights: np.ndarray | None = None


@functools.lru_cache(CACHED_GRIDS)
def places_of(grid: tuple[int, int, int], spec: PatchSpec, rotary: Rotary | None) -> Places:
    """The places of an image of `grid` frames, rows and columns of patches."""
    frames, rows, columns = grid
    coordinates = _in_blocks(np.indices((rows, columns)), spec.merge).T  # (patches of a frame, 2)
    order = windows = None
    if spec.window is not None:
        order, windows = _windows(rows // spec.merge, columns // spec.merge, spec.window)
        order = (order[:, None] * spec.cell + np.arange(spec.cell)).ravel()
        coordinates = coordinates[order]
        order = (np.arange(frames)[:, None] * len(order) + order).ravel()
        windows = np.tile(windows * spec.cell, frames)
    coordinates = np.tile(coordinates, (frames, 1)).astype(np.float32)
    if spec.reach is not None and spec.grid is not None:
        coordinates = coordinates / np.float32(spec.grid) * np.float32(spec.reach)
    lengths = np.full(frames, rows * columns)
    if spec.has_class_token:  # no angle turns it: cos 1, sin 0
        coordinates = np.concatenate([np.zeros((1, 2), np.float32), coordinates])
        lengths[0] += 1
    cos, sin = (None, None) if rotary is None else rotary_rows(rotary, coordinates)
    taps, tap_weights = (None, None) if spec.places is None else stretched(spec.places, (rows, columns), coordinates)
    return Places(order, cos, sin, lengths, windows, taps, tap_weights)


def stretched(places: int, grid: tuple[int, int], coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where patches lie on a table of `places` x `places` that is stretched over an image of `grid` rows and columns,
    its ends on the image's: the four places around each patch, (patches, 4) int32 rows of the table, and how much it
    takes of each, f32. Of a patch at row r: u = r (places - 1) / (rows - 1), between floor(u) and the next.

    Args:
        coordinates: (patches, 2), the row and the column of each.
    """
    scale = [(places - 1) / (side - 1) if side > 1 else 0.0 for side in grid]
    at = coordinates.astype(np.float64) * scale
    low = np.minimum(at.astype(np.int64), places - 1)
    part = at - low
    pairs = np.stack([low, np.minimum(low + 1, places - 1)])  # (2, patches, 2)
    shares = np.stack([1 - part, part])
    taps = pairs[:, None, :, 0] * places + pairs[None, :, :, 1]
    weights = shares[:, None, :, 0] * shares[None, :, :, 1]
    turned = (np.ascontiguousarray(values.reshape(4, -1).T) for values in (taps, weights))
    return next(turned).astype(np.int32), next(turned).astype(np.float32)


def _in_blocks(indices: np.ndarray, merge: int) -> np.ndarray:
    """(2, rows * columns): the patches of a frame by cells, and the patches of a cell by rows."""
    _, rows, columns = indices.shape
    blocks = indices.reshape(2, rows // merge, merge, columns // merge, merge)
    return blocks.transpose(0, 1, 3, 2, 4).reshape(2, -1)


def _windows(rows: int, columns: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of rows x columns cells: all of them window by window, and how many each window has. Those at the lower and the
    right end are what is left."""
    numbers = np.arange(rows * columns).reshape(rows, columns)
    parts = [
        numbers[top : top + size, left : left + size].ravel()
        for top in range(0, rows, size)
        for left in range(0, columns, size)
    ]
    return np.concatenate(parts), np.array([len(part) for part in parts])


def _inverse(order: np.ndarray | None, length: int) -> np.ndarray:
    """Where each patch lies among the rows."""
    places = np.arange(length)
    if order is None:
        return places
    inverse = np.empty_like(places)
    inverse[order] = places
    return inverse


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """All of them are None, or none is."""
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _patches_of(spec: ModelSpec) -> PatchSpec:
    assert spec.patches is not None  # a tower's spec has them
    return spec.patches


def _rotary_of(spec: ModelSpec) -> Rotary | None:
    """The one RoPE of all layers."""
    return spec.layers[0].rotary
