"""The names of video files; apart, so that a command line that reads texts loads nothing for videos."""

from __future__ import annotations

from typing import Final

SUFFIXES: Final = frozenset(
    (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".flv", ".wmv", ".3gp", ".ogv")
)
