"""Which frames of a video a tower sees, and in what size, as the published processor finds them."""

from __future__ import annotations

import math

import numpy as np

from longspan.images.resize import check_aspect


def chosen_frames(count: int, most: int) -> np.ndarray:
    """The indices of at most `most` frames of `count`, evenly spaced, first and last among them; int64, rising."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def clip_size(
    frames: int, height: int, width: int, step: int, depth: int, limits: tuple[int, int], name: str = "video"
) -> tuple[int, int]:
    """(height, width) of every frame, in multiples of `step`, near those given.

    Frames times height times width lie within `limits`, with frames rounded to a multiple of `depth` (a tie to the even
    multiple) where the sides round to suffice, and as they are where the sides have to shrink or to grow.
    A side below one step grows to it, the other with it. Source: the Qwen3-VL video processor's smart_resize.

    Raises: ValueError, one side is more than 200 times the other.
    """
    if min(height, width) < step:
        scale = max(step / height, step / width)
        height, width = int(height * scale), int(width * scale)
    check_aspect(height, width, name)
    least, most = limits
    high, wide = round(height / step) * step, round(width / step) * step
    volume = round(frames / depth) * depth * high * wide
    if volume > most:
        ratio = math.sqrt(frames * height * width / most)
        high = max(step, math.floor(height / ratio / step) * step)
        wide = max(step, math.floor(width / ratio / step) * step)
    elif volume < least:
        ratio = math.sqrt(least / (frames * height * width))
        high, wide = math.ceil(height * ratio / step) * step, math.ceil(width * ratio / step) * step
    return high, wide
