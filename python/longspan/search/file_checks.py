"""Checks of mapped columns, block by block, when a block is first used."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from longspan import _core
from longspan.errors import IndexFileError

BLOCK: Final = 64 << 10  # bytes that one CRC-32 covers
_BLOCKS_A_TASK: Final = 64


def num_blocks(size: int) -> int:
    """How many checksums cover `size` bytes."""
    return (size + BLOCK - 1) // BLOCK


class FileChecks:
    """Knows which blocks of an index's files were seen to be what was written. Threads may use it at the same time."""

    def __init__(self, columns: Mapping[str, tuple[Path, np.ndarray, np.ndarray]], *, num_rows: int) -> None:
        """`columns`: by name the file, its (bytes,) uint8 and the uint32 checksum of each block."""
        self._columns = dict(columns)
        self._num_rows = num_rows
        self._is_good = {name: np.zeros(len(sums), np.bool_) for name, (_, _, sums) in self._columns.items()}

    def verify(self, column: str, rows: np.ndarray | None = None) -> None:
        """Check the blocks that hold these rows, or all. IndexFileError where a block was altered."""
        is_good = self._is_good[column]
        wanted = np.arange(len(is_good)) if rows is None else self._blocks_of(column, rows.reshape(-1))
        wanted = wanted[~is_good[wanted]]
        tasks = [wanted[at : at + _BLOCKS_A_TASK] for at in range(0, len(wanted), _BLOCKS_A_TASK)]
        if len(tasks) <= 1:
            for task in tasks:
                self._check_blocks(column, task)
            return
        with ThreadPoolExecutor(_core.num_threads()) as pool:
            list(pool.map(lambda task: self._check_blocks(column, task), tasks))

    def _blocks_of(self, column: str, rows: np.ndarray) -> np.ndarray:
        """The blocks that hold bytes of these rows, each once."""
        row_bytes = self._columns[column][1].nbytes // max(1, self._num_rows)
        first, last = rows * row_bytes // BLOCK, ((rows + 1) * row_bytes - 1) // BLOCK
        longest = int((last - first).max(initial=0))
        return np.unique(np.concatenate([np.minimum(first + i, last) for i in range(longest + 1)]))

    def _check_blocks(self, column: str, blocks: np.ndarray) -> None:
        path, data, checksums = self._columns[column]
        for block in blocks.tolist():
            if zlib.crc32(data[block * BLOCK : (block + 1) * BLOCK].data) != checksums[block]:
                raise IndexFileError(
                    f"{path} was altered: bytes {block * BLOCK} to {min((block + 1) * BLOCK, len(data))} are not "
                    "those that were saved; restore the folder"
                )
            self._is_good[column][block] = True
