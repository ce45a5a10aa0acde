"""The exceptions and warnings that longspan raises beside Python's own."""

from __future__ import annotations

import sys
import warnings


class CheckpointError(ValueError):
    """A checkpoint's files are missing, damaged, or say something that this runtime does not support."""


class BackendError(RuntimeError):
    """Every backend of an op, or the one that was asked for, refused the call; the text gives each reason."""


class TruncationWarning(UserWarning):
    """Texts were cut to the tokens that count; the text says how many and by how much."""


class IndexFileError(ValueError):
    """A search index's files are missing, torn, altered, or of a version that this runtime does not read."""


class OriginWarning(UserWarning):
    """Vectors of another model, or of the same one in another compute type, than those that they are compared with."""


class DatabaseError(ValueError):
    """A relational database cannot be opened, read or written; the text says what was being done."""


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called longspan, however many of our own functions lie between."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith("longspan."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
