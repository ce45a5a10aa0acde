"""Memory for the activations of one forward pass, kept from one batch to the next."""

from __future__ import annotations

import numpy as np


class Workspace:
    """Named buffers that grow to the largest batch seen. One forward pass at a time may use a workspace."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def take(self, name: str, rows: int, columns: int) -> np.ndarray:
        """(rows, columns) f32 with undefined contents; the same memory as the last `take` of that name."""
        size = rows * columns
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, np.float32)
        return buffer[:size].reshape(rows, columns)
