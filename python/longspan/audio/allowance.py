"""How much may be decoded for one caller: told by what files say of themselves, and kept by what comes out of them."""

from __future__ import annotations

from typing import Final

SAMPLES_A_SECOND: Final = 96_000  # of all channels, 48 kHz in stereo; a second of more counts as several
LEAST_FRAME_PIXELS: Final = 1 << 16  # that a frame counts with: small ones take their time too


class MediaLimitError(ValueError):
    """There is more to decode than the caller allows."""


class Allowance:
    """What is left of it goes down with everything that is read under it. One thread at a time.

    Args:
        seconds: of sound, and again of video.
        pixels: of images and of videos' frames, together.
    """

    def __init__(self, seconds: float, pixels: float) -> None:
        self._seconds, self._pixels = seconds, pixels
        self._heard = self._seen = self._drawn = 0.0

    def expect_sound(self, name: str, seconds: float, samples_a_second: float) -> None:
        """A file claims to have so much; its header may lie. Raises: MediaLimitError, naming it."""
        self._check_sound(name, self._heard + _counted(seconds, samples_a_second))

    def take_sound(self, name: str, seconds: float, samples_a_second: float) -> None:
        """So much of it is decoded. Raises: MediaLimitError, naming it."""
        self._heard += _counted(seconds, samples_a_second)
        self._check_sound(name, self._heard)

    def take_video(self, name: str, seconds: float, frames: int, pixels: int) -> None:
        """A file claims to have so many seconds, and frames of so many pixels. The seconds are taken; what is drawn,
        `take_frame` takes. Raises: MediaLimitError, naming it."""
        self._seen += max(0.0, seconds)
        if self._seen > self._seconds:
            raise MediaLimitError(_said(name, "long", f"{self._seconds:g} seconds of video"))
        self._check_pixels(name, self._drawn + frames * max(pixels, LEAST_FRAME_PIXELS))

    def take_frame(self, name: str, pixels: int) -> None:
        """A frame is decoded. Raises: MediaLimitError, naming the video."""
        self._drawn += max(pixels, LEAST_FRAME_PIXELS)
        self._check_pixels(name, self._drawn)

    def take_image(self, name: str, pixels: int) -> None:
        """An image is about to be decoded: of images headers do not lie. Raises: MediaLimitError, naming it."""
        self._drawn += pixels
        self._check_pixels(name, self._drawn)

    def _check_sound(self, name: str, seconds: float) -> None:
        if seconds > self._seconds:
            raise MediaLimitError(_said(name, "long", f"{self._seconds:g} seconds of sound"))

    def _check_pixels(self, name: str, pixels: float) -> None:
        if pixels > self._pixels:
            raise MediaLimitError(_said(name, "large", f"{self._pixels:.0f} pixels in images and frames"))


def _counted(seconds: float, samples_a_second: float) -> float:
    return seconds * max(1.0, samples_a_second / SAMPLES_A_SECOND)


def _said(name: str, what: str, most: str) -> str:
    advice = "shorten it" if what == "long" else "make it smaller"
    return f"{name} is too {what}: all that is given together may have {most}; {advice}"
