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
        self._taken: dict[str, tuple[tuple[int, int, int], np.ndarray]] = {}  # what `take` was last asked for, and gave

    def take(self, name: str, rows: int, columns: int, room: int = 0) -> np.ndarray:
        """(rows, columns) with undefined contents; the same memory as the last `take` of that name. Behind each row is
        `room` for so many columns more."""
        asked = rows, columns, room
        last = self._taken.get(name)
        if last is not None and last[0] == asked:
            return last[1]
        size = rows * (columns + room)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape[0] < size:
            buffer = self._buffers[name] = self._empty(size)
        taken = buffer[:size].reshape(rows, columns + room)[:, :columns]
        self._taken[name] = asked, taken
        return taken

    def buffers(self) -> list[np.ndarray]:
        """All of its memory."""
        return [*self._buffers.values()]
