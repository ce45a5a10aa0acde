"""The names of video files; apart, so that a command line that reads texts loads nothing for videos."""

from __future__ import annotations

from typing import Final

# Without .ts, which nearly always is TypeScript.
SUFFIXES: Final = frozenset(
    (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".m2ts", ".mts", ".flv", ".wmv", ".3gp", ".ogv")
)
