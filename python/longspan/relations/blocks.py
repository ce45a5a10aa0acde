"""The vectors while they are computed: column blocks that move sideways, so that a step needs no second matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

WIDTH: Final = 64  # columns of a block: 256 bytes of a row, four cache lines
ROWS: Final = 8192  # rows that NumPy works on at a time


@dataclass(frozen=True, slots=True)
class Move:
    """One block's part in a step: read the old columns, write the new ones."""

    columns: slice  # of the vectors
    old: np.ndarray  # (n, width) view
    new: np.ndarray  # (n, width) view, which shares no memory with any block not yet read


class MovingBlocks:
    """(n, d) float32 in a buffer one block wider. A step writes each block beside where it was, into what is free; the
    next one moves them back. So the memory is n d floats and a block's, not twice n d.

    Args:
        base: (n, d) f32 to begin with.
        absent: (n,) bool, rows that begin as zeros.
    """

    def __init__(self, base: np.ndarray, absent: np.ndarray) -> None:
        self.rows, self.dim = base.shape
        self._width = min(WIDTH, max(self.dim, 1))
        self._buffer = np.empty((self.rows, self.dim + self._width), np.float32)
        self._at = 0  # where the vectors' first column lies: 0 or the width
        for rows in row_blocks(self.rows):
            self._buffer[rows, : self.dim] = base[rows]
        self._buffer[absent, : self.dim] = 0

    @property
    def vectors(self) -> np.ndarray:
        """(n, d) view of what there is now."""
        return self._buffer[:, self._at : self._at + self.dim]

    def step(self) -> Iterator[Move]:
        """The blocks of one step, in the order in which they can move. All must be taken."""
        starts = range(0, self.dim, self._width)
        to = 0 if self._at else self._width
        for start in starts if self._at else reversed(starts):
            stop = min(start + self._width, self.dim)
            old = self._buffer[:, self._at + start : self._at + stop]
            yield Move(slice(start, stop), old, self._buffer[:, to + start : to + stop])
        self._at = to

    def finish(self, scale: np.ndarray | None) -> np.ndarray:
        """(n, d) contiguous, each row times its `scale`, in the buffer's own memory, which shrinks to it."""
        flat = self._buffer.reshape(-1)
        for rows in row_blocks(self.rows):
            part = self.vectors[rows].copy()
            if scale is not None:
                part *= scale[rows, None]
            flat[rows.start * self.dim : rows.start * self.dim + part.size] = part.reshape(-1)
        del flat
        buffer, size = self._buffer, self.rows * self.dim
        del self._buffer
        buffer.resize(size, refcheck=False)
        return buffer.reshape(self.rows, self.dim)


def row_blocks(rows: int) -> Iterator[slice]:
    """Slices that part the rows."""
    for start in range(0, rows, ROWS):
        yield slice(start, min(start + ROWS, rows))
