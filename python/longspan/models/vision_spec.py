"""How a model looks at images, as data: what becomes of an image before its tower, how the tower takes it in, and where
what comes out stands in the language side's text. The tower itself is a `ModelSpec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# How an image gets the size that its tower wants. "shortest": the shorter side to `size`, then the middle square;
# "longest": the longer side to `size`, the rest filled up; "squash": both sides to `size`; "area": both sides to
# multiples of a patch, or of a cell of merged ones, their product within limits.
Resize = Literal["shortest", "longest", "squash", "area"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)
LEAST_PIXELS, MOST_PIXELS = 56 * 56, 28 * 28 * 1280  # the Qwen2-VL processor's own limits


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """From an image of bytes to the floats that a tower's patches are cut from: (x / 255 - mean) / std."""

    resize: Resize
    size: int = 0  # pixels a side, of all kinds but "area"
    least_pixels: int = LEAST_PIXELS  # of "area"
    most_pixels: int = MOST_PIXELS
    fill: int = 0  # the byte beside an image that "longest" made narrow
    resample: Resample = "bicubic"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """From a video to the frames that a tower reads, and to their floats."""

    pixels: PixelSpec  # the limits of "area" count the pixels of all frames together
    most_frames: int = 32  # of a file; one that has more gives this many, evenly spaced


@dataclass(frozen=True, slots=True)
class PatchSpec:
    """How a tower takes pixels in: squares side by side, each a row of numbers (channel, frame, row, column)."""

    size: int  # pixels a side
    frames: int = 1  # that a patch holds, one behind the other; a still image is its own next frame
    merge: int = 1  # neighbouring patches a side that leave the tower as one token; they lie one behind the other
    window: int | None = None  # merged cells a side of what a windowed layer's attention sees; None: it has none
    has_class_token: bool = False  # a token before the patches, which no place turns
    grid: int | None = None  # patches a side of every image, where the tower has one learned place for each
    places: int | None = None  # a side of a table of learned places, stretched over any image; see `stretched`
    reach: float | None = None  # RoPE's coordinates go from 0 to this over `grid`; None: they count patches

    @property
    def values(self) -> int:
        """Numbers of a patch."""
        return 3 * self.frames * self.size**2

    @property
    def cell(self) -> int:
        """Patches that leave the tower as one token."""
        return self.merge**2


@dataclass(frozen=True, slots=True)
class ImageText:
    """The text that stands for an image on the language side; one of its tokens becomes all of the image's.

    A text's vector is pooled over all tokens, an image's over those from `start_id` to `end_id`.
    """

    template: str
    pad_id: int  # the token that the image's features replace, one for each
    start_id: int
    end_id: int
