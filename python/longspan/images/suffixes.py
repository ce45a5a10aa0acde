"""The names of image files; apart, so that a command line that reads texts loads nothing for images."""

from __future__ import annotations

from typing import Final

SUFFIXES: Final = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")
)
