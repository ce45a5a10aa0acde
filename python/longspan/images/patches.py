"""From an image's bytes to a tower's rows: normalised, and cut into patches in the order that the tower wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from longspan.images.decode import ImageInput, read_image
from longspan.images.resize import resized
from longspan.models.vision_spec import PatchSpec, PixelSpec
from longspan.packing.media import Patches


@dataclass(frozen=True)
class ImageReader:
    """Images to patches by one model's settings."""

    pixels: PixelSpec
    patches: PatchSpec

    @cached_property
    def _levels(self) -> np.ndarray:
        """(3, 256) f32: what each byte of a channel becomes, (x / 255 - mean) / std, rounded once."""
        bytes_ = np.arange(256) / 255
        mean, std = (np.array(values)[:, None] for values in (self.pixels.mean, self.pixels.std))
        return ((bytes_ - mean) / std).astype(np.float32)

    def read(self, image: ImageInput, name: str = "image") -> Patches:
        """Decoded, resized and cut.

        Raises: as `read_image`, and ValueError on sides that differ too much.
        """
        return self.cut(resized(read_image(image, name), self.pixels, self.patches, name))

    def cut(self, image: np.ndarray) -> Patches:
        """The patches of an image in its final size, (height, width, 3) uint8; what fills no patch at the right and the
        lower end is dropped."""
        return self.cut_frames([image])

    def cut_frames(self, frames: Sequence[np.ndarray]) -> Patches:
        """As `cut`, of a video's frames, at least one, all of one size; the last is repeated until a patch is full."""
        spec = self.patches
        size, merge, depth = spec.size, spec.merge, spec.frames
        rows, columns = (side // (size * merge) for side in frames[0].shape[:2])  # cells
        times = -(-len(frames) // depth)
        values = np.empty((times, rows * columns * spec.cell, 3, depth, size * size), np.float32)
        for place in range(times * depth):
            if place < len(frames):
                bytes_ = self._in_patches(frames[place], rows, columns)
            for channel in range(3):
                out = values[place // depth, :, channel, place % depth]
                np.take(self._levels[channel], bytes_[:, channel], out=out)
        return Patches(values.reshape(-1, spec.values), (times, rows * merge, columns * merge))

    def _in_patches(self, image: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """(patches, 3, size * size) uint8, of so many rows and columns of cells."""
        size, merge = self.patches.size, self.patches.merge
        image = image[: rows * merge * size, : columns * merge * size]
        cells = image.reshape(rows, merge, size, columns, merge, size, 3)
        return cells.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3, size * size)
