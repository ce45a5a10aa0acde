"""Options that are whole numbers."""

from __future__ import annotations

import operator
from typing import Final

LARGEST: Final = 2**63 - 1  # that int64 holds


def checked_int(name: str, value: object) -> int:
    """`value` as an int: an int, or what stands for one, such as NumPy's. TypeError, which begins with `name`, if it is
    none; nor are True and False."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} must be an int, got {type(value).__name__}")
