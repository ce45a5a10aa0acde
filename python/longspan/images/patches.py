"""From an image's bytes to a tower's rows: normalised, and cut into patches in the order that the tower wants."""

from __future__ import annotations

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
        spec = self.patches
        size, merge = spec.size, spec.merge
        rows, columns = (side // (size * merge) for side in image.shape[:2])  # cells
        image = image[: rows * merge * size, : columns * merge * size]
        cells = image.reshape(rows, merge, size, columns, merge, size, 3)
        bytes_ = cells.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3, size * size)
        values = np.empty((len(bytes_), 3, spec.frames, size * size), np.float32)
        for channel in range(3):
            for frame in range(spec.frames):
                np.take(self._levels[channel], bytes_[:, channel], out=values[:, channel, frame])
        return Patches(values.reshape(len(bytes_), -1), (1, rows * merge, columns * merge))
