"""The size that a tower wants of an image, as its published processor finds it, and the image in that size.

Pillow resizes: antialiased, in bytes, so that the bits are those of processors that use it.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from longspan.images.decode import NEEDS_PILLOW
from longspan.models.vision_spec import PatchSpec, PixelSpec, Resample

MOST_ASPECT: Final = 200  # the Qwen2-VL processor's; beyond it a side has no pixel left, or memory does not suffice


def resized(image: np.ndarray, pixels: PixelSpec, patches: PatchSpec, name: str = "image") -> np.ndarray:
    """The image as the tower takes it, (height, width, 3) uint8; sides are what the processor makes them.

    Args:
        image: (height, width, 3) uint8.
    Raises: ValueError, one side is more than 200 times the other; ImportError, Pillow is not installed, and the size
        has to change.
    """
    height, width = image.shape[:2]
    check_aspect(height, width, name)
    size = pixels.size
    if pixels.resize == "area":
        step = patches.size * patches.merge
        return to_size(image, area_size(height, width, step, pixels.least_pixels, pixels.most_pixels), pixels.resample)
    if pixels.resize == "squash":
        return to_size(image, (size, size), pixels.resample)
    if pixels.resize == "longest":
        ratio = max(height, width) / size
        inner = to_size(image, (max(1, round(height / ratio)), max(1, round(width / ratio))), pixels.resample)
        return _padded(inner, size, pixels.fill)
    shorter, longer = size, int(size * max(height, width) / min(height, width))
    inner = to_size(image, (shorter, longer) if height <= width else (longer, shorter), pixels.resample)
    top, left = round((inner.shape[0] - size) / 2), round((inner.shape[1] - size) / 2)
    return inner[top : top + size, left : left + size]


def area_size(height: int, width: int, step: int, least: int, most: int) -> tuple[int, int]:
    """(height, width) in multiples of `step`, near those given, at least `least` and at most `most` pixels in all.

    Source: the Qwen2-VL processor's smart_resize; a side that would vanish has one step.
    """
    high, wide = max(step, round(height / step) * step), max(step, round(width / step) * step)
    if high * wide > most:
        ratio = math.sqrt(height * width / most)
        high = max(step, math.floor(height / ratio / step) * step)
        wide = max(step, math.floor(width / ratio / step) * step)
    elif high * wide < least:
        ratio = math.sqrt(least / (height * width))
        high, wide = math.ceil(height * ratio / step) * step, math.ceil(width * ratio / step) * step
    return high, wide


def check_aspect(height: int, width: int, name: str) -> None:
    """ValueError if one side is more than MOST_ASPECT times the other."""
    if max(height, width) > MOST_ASPECT * min(height, width):
        raise ValueError(
            f"{name} must have sides of which none is more than {MOST_ASPECT} times the other, got {width} x {height}"
        )


def to_size(image: np.ndarray, size: tuple[int, int], resample: Resample) -> np.ndarray:
    """The image, (height, width, 3) uint8, with another height and width. Raises: ImportError, as `resized`."""
    if image.shape[:2] == size:
        return image
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(NEEDS_PILLOW.format(error=error)) from error
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling[resample.upper()]))


def _padded(image: np.ndarray, size: int, fill: int) -> np.ndarray:
    """In the middle of a square of `size` pixels a side, of the byte `fill`."""
    out = np.full((size, size, 3), fill, np.uint8)
    top, left = (size - image.shape[0]) // 2, (size - image.shape[1]) // 2
    out[top : top + image.shape[0], left : left + image.shape[1]] = image
    return out
