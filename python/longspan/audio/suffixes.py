"""The names of sound files; apart, so that a command line that reads texts loads nothing for sounds."""

from __future__ import annotations

from typing import Final

SUFFIXES: Final = frozenset(
    (
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"),  # by libsndfile
        *(".m4a", ".aac", ".mka", ".wma", ".amr", ".weba"),  # by PyAV
    )
)
