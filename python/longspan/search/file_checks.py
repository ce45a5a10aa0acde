"""Checks of mapped columns, block by block, when a block is first used."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A column in its file."""

    path: Path
    data: np.ndarray  # (bytes,) uint8
    checksums: np.ndarray  # uint32 of each block
    row_bytes: int
    mapped: mmap.mmap | None = None  # what `data` is a view of
    is_scattered: bool = False  # the system was told not to read ahead in it

    def check_size(self) -> None:
        """IndexFileError if the file was shortened since it was mapped: a read behind its end would end the process.

        What is cut off between this and the read still does; nothing but the file's owner prevents that."""
        if self.mapped is not None and (size := self.mapped.size()) < len(self.data):
            raise IndexFileError(
                f"{self.path} was shortened while it was in use: it has {size} of {len(self.data)} bytes; restore the "
                f"folder"
            )

    def fetch(self, blocks: np.ndarray) -> None:
        """Ask the system for these blocks, rising, all at once, rather than one fault at a time."""
        if self.mapped is None or not self.is_scattered or not len(blocks):
            return
        breaks = np.flatnonzero(np.diff(blocks) > 1)
        firsts = blocks[np.append(0, breaks + 1)] * BLOCK
        ends = np.minimum((blocks[np.append(breaks, len(blocks) - 1)] + 1) * BLOCK, len(self.data))
        for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
            self.mapped.madvise(mmap.MADV_WILLNEED, first, end - first)


class FileChecks:
    """Knows which blocks of an index's files were seen to be what was written. Threads may use it at the same time."""

    def __init__(self, columns: Mapping[str, CheckedFile]) -> None:
        self._columns = dict(columns)
        self._is_good = {name: np.zeros(len(file.checksums), np.bool_) for name, file in self._columns.items()}

    def verify(self, column: str, rows: np.ndarray | None = None) -> None:
        """Check the blocks that hold these rows, or all. IndexFileError where a block was altered."""
        if rows is None:
            self._check(column, np.arange(len(self._is_good[column])))
        else:
            self.verify_spans(column, rows.reshape(-1), rows.reshape(-1) + 1)

    def verify_spans(self, column: str, starts: np.ndarray, ends: np.ndarray) -> None:
        """The same for the rows [start, end) of each span; no span is empty."""
        row_bytes = self._columns[column].row_bytes
        first, last = starts * row_bytes // BLOCK, (ends * row_bytes - 1) // BLOCK
        counts = last - first + 1
        before = np.cumsum(counts) - counts
        self._check(column, np.unique(np.repeat(first - before, counts) + np.arange(counts.sum())))

    def _check(self, column: str, blocks: np.ndarray) -> None:
        """Fetch the blocks, and check those that were not seen yet, on all threads if they are many."""
        self._columns[column].check_size()
        self._columns[column].fetch(blocks)
        wanted = blocks[~self._is_good[column][blocks]]
        tasks = [wanted[at : at + _BLOCKS_A_TASK] for at in range(0, len(wanted), _BLOCKS_A_TASK)]
        if len(tasks) <= 1:
            for task in tasks:
                self._check_blocks(column, task)
            return
        with ThreadPoolExecutor(_core.num_threads()) as pool:
            list(pool.map(lambda task: self._check_blocks(column, task), tasks))

    def _check_blocks(self, column: str, blocks: np.ndarray) -> None:
        file = self._columns[column]
        for block in blocks.tolist():
            if zlib.crc32(file.data[block * BLOCK : (block + 1) * BLOCK].data) != file.checksums[block]:
                end = min((block + 1) * BLOCK, len(file.data))
                raise IndexFileError(
                    f"{file.path} was altered: bytes {block * BLOCK} to {end} are not those that were saved; restore "
                    "the folder"
                )
            self._is_good[column][block] = True
