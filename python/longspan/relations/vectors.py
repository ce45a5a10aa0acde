"""Base vectors: from an encoder, or from an array in the order of a plan's nodes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeGuard

import numpy as np

from longspan.progress import progress_bar
from longspan.relations.blocks import row_blocks
from longspan.vectors.origin import Origin

_TEXTS_AT_A_TIME = 4096


class TextEncoder(Protocol):
    """What turns texts into vectors: `longspan.Encoder`, or anything with such an `encode`."""

    @property
    def encode(self) -> Callable[..., object]:
        """From a list of n texts to (n, d)."""


Vectors: TypeAlias = "TextEncoder | np.ndarray"


def base_vectors(texts: Sequence[str], given: Vectors, show_progress_bar: bool | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) float32 in the order of `texts`, and (n,) bool, which of them are absent.

    An array is taken as it is, without a copy if it is float32; rows that are NaN throughout are absent. An encoder
    gets every distinct text once.

    Raises: ValueError, another shape, or values that are not finite; TypeError, neither an array nor an encoder.
    """
    rows = _encoded(texts, given, show_progress_bar) if is_encoder(given) else _array(given)
    if rows.ndim != 2 or len(rows) != len(texts) or rows.shape[1] == 0:
        raise ValueError(f"retrofit: vectors must be ({len(texts)}, d), a row a node of the plan, got {rows.shape}")
    absent = np.isnan(rows[:, 0])
    bad = np.zeros(len(rows), bool)
    for part in row_blocks(len(rows)):
        absent[part] &= np.isnan(rows[part]).all(axis=1)
        bad[part] = ~np.isfinite(rows[part]).all(axis=1) & ~absent[part]
    if bad.any():
        raise ValueError(
            f"retrofit: vectors[{int(np.flatnonzero(bad)[0])}] is not finite; NaN throughout stands for no vector"
        )
    return rows, absent


def is_encoder(given: object) -> TypeGuard[TextEncoder]:
    """Whether it makes vectors of texts; a str has an `encode` too, and is none."""
    return callable(getattr(given, "encode", None)) and not isinstance(given, str | type)


def model_of(vectors: object) -> tuple[str | None, Origin | None]:
    """An encoder's name and what it says of where its vectors come from; None for what it does not tell."""
    name, origin = getattr(vectors, "name", None), getattr(vectors, "origin", None)
    return name if isinstance(name, str) else None, origin if isinstance(origin, Origin) else None


def _array(given: object) -> np.ndarray:
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "fiu":
        raise TypeError(
            "retrofit: give an Encoder, or an array (n, d) of numbers in the order of plan.nodes, got "
            f"{given.dtype if isinstance(given, np.ndarray) else type(given).__name__}"
        )
    return np.ascontiguousarray(given, np.float32)


def _encoded(texts: Sequence[str], encoder: TextEncoder, show_progress_bar: bool | None) -> np.ndarray:
    numbers: dict[str, int] = {}
    place = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
    distinct = list(numbers)
    parts = []
    takes = inspect.signature(encoder.encode).parameters
    quiet = {"show_progress_bar": False} if "show_progress_bar" in takes else {}  # ours is the one bar
    with progress_bar(len(distinct), "text", show_progress_bar, what="base vectors of texts") as advance:
        for start in range(0, len(distinct), _TEXTS_AT_A_TIME):
            block = distinct[start : start + _TEXTS_AT_A_TIME]
            parts.append(_array(encoder.encode(block, **quiet)))
            advance(len(block))
    if not parts:
        raise ValueError("retrofit: the plan has no nodes, so there is nothing to embed")
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return found if len(distinct) == len(texts) else found[place]
