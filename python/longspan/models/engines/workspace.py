"""Memory for the activations of one forward pass, kept from one batch to the next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class Workspace:
    """Named buffers that grow to the largest batch seen. One forward pass at a time may use a workspace.

    Args:
        empty: gives a new (size,) buffer; `OpsEngine.empty` of the engine that computes in it.
    """

    def __init__(self, empty: Callable[[int], np.ndarray]) -> None:
        self._empty = empty
        self._buffers: dict[str, np.ndarray] = {}

    def take(self, name: str, rows: int, columns: int) -> np.ndarray:
        """(rows, columns) with undefined contents; the same memory as the last `take` of that name."""
        size = rows * columns
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = self._empty(size)
        return buffer[:size].reshape(rows, columns)
