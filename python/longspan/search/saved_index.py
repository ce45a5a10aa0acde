"""What every index has: rows in segments, ids, one writer at a time, and a folder to live in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, NoReturn

import numpy as np

from longspan.arguments import names_arguments
from longspan.fork_locks import ForkLock
from longspan.search import files
from longspan.search.header import T
from longspan.search.ids import Owner, live_ids, without
from longspan.search.segment import C, Segment
from longspan.vectors.arrays import IntArray
from longspan.vectors.origin import Origin

if TYPE_CHECKING:
    from typing_extensions import Self


@names_arguments
class SavedIndex(Generic[T, C]):
    """An index of `C`, whose folder says `T` of it. Readers take `_segments` as they are at that moment; writers hold
    `_lock` and put others in their place.

    Attributes:
        origin: the model whose vectors these are; `add` sets it, the folder keeps it.
    """

    _OWNER: ClassVar[Owner]
    _KEEPS_ROWS: ClassVar[bool] = False  # what was saved stays in memory, instead of being read from the folder

    def __init__(self) -> None:
        self.origin: Origin | None = None
        self._segments: tuple[Segment[C], ...] = ()
        self._next_id = 0
        self._lock = ForkLock()  # held by writers
        self._saved: dict[Path, files.Saved[T]] = {}

    @staticmethod
    def _kind() -> type[T]:
        raise NotImplementedError

    def _state(self) -> T:
        """What the folder is to say."""
        raise NotImplementedError

    @classmethod
    def _empty(cls, state: T) -> Self:
        """An index without rows, as the folder says."""
        raise NotImplementedError

    @staticmethod
    def _rows(columns: Mapping[str, np.ndarray]) -> C:
        raise NotImplementedError

    def __copy__(self) -> Self:
        """An index of its own: what is added to one from now on is not in the other. They share the rows that are there
        already, which nobody alters."""
        with self._lock:
            twin = self._empty(self._state())
            twin._segments, twin._saved = self._segments, dict(self._saved)
        return twin

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self._OWNER.name}: an index is not pickled; save it, and load it where it is needed")

    def __len__(self) -> int:
        return sum(len(segment) - segment.num_deleted for segment in self._segments)

    @property
    def ids(self) -> IntArray:
        """(n,) int64: the documents' ids, in the order in which they were added."""
        return live_ids(self._segments)

    @property
    def next_id(self) -> int:
        """The id that `add` hands out next: above all that ever were in it."""
        return self._next_id

    def delete(self, ids: np.ndarray) -> None:
        """Delete documents. Their place is kept until `compact`.

        Args:
            ids: (n,) integers, each of them in the index.
        Raises: ValueError, one is not; nothing is deleted then.
        """
        with self._lock:
            self._segments = without(self._OWNER, self._segments, ids)

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the index to `folder`: all of it the first time, then only what was added since.

        The state on disk changes in one step: a process that dies here leaves the index as it was saved last. What a
        MultiVectorStore or a SparseIndex has saved is from then on read from the files, and its memory is let go: so
        it may grow beyond the memory, by adding and saving in turn. No write follows a link out of the folder.

        Args:
            folder: made if it is not there; its parent must be.
            overwrite: replace another index that lies there.
        Raises: IndexFileError, another index lies there, or this one was changed there by somebody else;
            FileNotFoundError, the parent is missing; OSError, as from the disk.
        """
        with self._lock:
            place = _place(f"{self._OWNER.name}.save", folder)
            saved = files.save(place, self._state(), self._segments, self._saved.get(place), overwrite=overwrite)
            self._saved[place] = saved
            if self._KEEPS_ROWS:
                return
            try:
                opened = files.open_columns(place, saved.header, is_mapped=True)
            except FileNotFoundError:  # another process has saved since: what is in memory stays there
                return
            self._segments = self._segments_of(opened, is_checked=False)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = True, verify: bool = False) -> Self:
        """Open a saved index.

        Args:
            mmap: leave the rows in their files, mapped; False reads them into memory, checked.
            verify: check all bytes now. Otherwise each is checked when a call first needs it: a block that was
                altered is an IndexFileError there, never a wrong answer. So is a file that was shortened since; one
                that is cut off under a call ends the process.
        Raises: FileNotFoundError, there is no index; IndexFileError, it is torn, altered, or of a newer version.
        """
        place = _place(f"{cls._OWNER.name}.load", folder)
        opened = files.load(place, cls._kind(), is_mapped=mmap)
        index = cls._empty(opened.state)
        index._segments = cls._segments_of(opened, is_checked=verify or not mmap)
        index._saved[place] = opened.saved
        return index

    def _forget_places(self) -> None:
        """What is in memory is no longer what lies on the disk, followed by new rows."""
        self._saved = {folder: saved.rewritten() for folder, saved in self._saved.items()}

    @classmethod
    def _segments_of(cls, opened: files.Opened[T], *, is_checked: bool) -> tuple[Segment[C], ...]:
        segment = opened.segment(cls._rows(opened.columns), is_checked=is_checked)
        return (segment,) if len(segment) else ()


def _place(caller: str, folder: str | os.PathLike[str]) -> Path:
    """Where a folder really lies."""
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{caller}: folder must be a path, got {type(folder).__name__}")
    if not os.fspath(folder):
        raise ValueError(f"{caller}: folder must be a path, got an empty one; '.' is the folder you are in")
    return Path(os.path.realpath(folder))
