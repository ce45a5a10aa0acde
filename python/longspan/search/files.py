"""An index's folder: columns in plain files that only grow, and one header that says how much of them counts.

    index.json               the header: what the columns are, how many bytes of each file count, and their checks;
                             replaced by renaming, so that the folder changes from one state to the next in one step
    codes-000001.bin ...     ids, vectors, scales, ...: one column each, rows one after the other, little endian
    deleted-000007.bin       bits of deleted rows, most significant first; new with every save that needs it
    checks-000007.bin        CRC-32 of each 64 KiB of the columns and of `deleted`, in the header's order; new with
                             every save, and itself covered by the header's SHA-256
    lock                     held by the process that saves

No write leaves the folder: columns that are links, or that another folder shares, are written anew instead of grown.

Bytes beyond what the header counts are left by a save that did not end; nobody reads them, and the next save cuts them
off. A file shorter than the header says is torn, and refused; so is one that was cut off since it was mapped, at the
next call (one that is cut off under a call ends the process: no reader of a map survives that). Loading checks the
header, the checks and the sizes, in time that does not grow with the index; each 64 KiB of a column is checked when it
is first used (`FileChecks`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, Generic

import numpy as np

from longspan.errors import IndexFileError
from longspan.own_files import is_own, open_new, open_own, sync_folder
from longspan.search.file_checks import BLOCK, CheckedFile, FileChecks, num_blocks
from longspan.search.header import HEADER, ROWS, FileEntry, Header, S_co, State, T, read_header, write_header
from longspan.search.segment import C, Columns, Segment, deleted_bits, is_ascending

_COLUMNS: Final = "codes|ids|vectors|scales|ends|tokens|docends|termends|terms|peaks|docs|values"
_OURS: Final = re.compile(rf"({_COLUMNS}|deleted|checks)-\d{{6,}}\.bin|index\.json\.new")
_CHUNK: Final = 64 << 20  # bytes; a multiple of BLOCK

Segments = Sequence[Segment[Columns]]


@dataclass(frozen=True, slots=True)
class Saved(Generic[S_co]):
    """What a folder holds of an index in memory: the state after this index's last save or load there."""

    header: Header[S_co]
    checksums: Mapping[str, np.ndarray]  # of each column: uint32 a block
    is_prefix: bool = True  # False: the rows in memory are no longer those on disk followed by new ones

    def rewritten(self) -> Saved[S_co]:
        """The same, of an index whose rows in memory have changed places."""
        return replace(self, is_prefix=False)


@dataclass(frozen=True, slots=True)
class Opened(Generic[S_co]):
    """An index's files, open."""

    saved: Saved[S_co]
    columns: Mapping[str, np.ndarray]
    deleted: np.ndarray | None  # bits
    checks: FileChecks

    @property
    def state(self) -> S_co:
        """What the header says beside the rows."""
        return self.saved.header.state

    def segment(self, rows: C, *, is_checked: bool = False) -> Segment[C]:
        """`rows`, which were made of `columns`, as one segment; `is_checked` checks all of it now."""
        count, deleted = len(rows.ids), self.deleted
        segment = Segment(
            rows,
            deleted,
            num_deleted=0 if deleted is None else int(np.unpackbits(deleted, count=count).sum(dtype=np.int64)),
            is_ascending=self.saved.header.is_ascending,
            checks=self.checks,
        )
        if is_checked:
            for name in self.columns:
                segment.verify(name)
        return segment


def save(folder: Path, state: T, segments: Segments, saved: Saved[T] | None, *, overwrite: bool) -> Saved[T]:
    """Bring `folder` to the state of these segments. See `BinaryIndex.save`."""
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder}: the folder {folder.parent} does not exist")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; an index takes a folder of its own")
    folder.mkdir(exist_ok=True)
    with _locked(folder):
        present = read_header(folder, type(state)) if (folder / HEADER).exists() and not overwrite else None
        if present is not None and (saved is None or present.token != saved.header.token):
            what = "another index lies there" if saved is None else "the index there was changed by somebody else"
            raise IndexFileError(f"{folder}: {what}; load it, choose another folder, or pass overwrite=True")
        is_append = present is not None and saved is not None and saved.is_prefix and _are_own(folder, present)
        written = _write(folder, state, segments, saved if is_append else None, _next_number(folder))
        sync_folder(folder)
        write_header(folder, written.header)
        sync_folder(folder)
        _remove_others(folder, written.header)
    return written


def load(folder: Path, kind: type[T], *, is_mapped: bool) -> Opened[T]:
    """The index in `folder`. See `BinaryIndex.load`."""
    while True:
        header = read_header(folder, kind)
        try:
            return open_columns(folder, header, is_mapped=is_mapped)
        except FileNotFoundError as error:
            # A save that ended since the header was read has removed the files of that header.
            if read_header(folder, kind).token == header.token:
                raise IndexFileError(f"{folder}: {error.filename} is missing; restore the whole folder") from error


def open_columns(folder: Path, header: Header[T], *, is_mapped: bool) -> Opened[T]:
    """The files that this header counts. FileNotFoundError where a later save has removed one."""
    table = _read_file(folder, header.checks)
    if hashlib.sha256(table).hexdigest() != header.checks_sha256:
        raise IndexFileError(f"{folder / header.checks.name} was altered: its SHA-256 is not the header's; restore it")
    columns = header.state.columns()
    checked, first = dict[str, CheckedFile](), 0
    for name, entry in header.files.items():
        checksums = np.frombuffer(table, "<u4", num_blocks(entry.bytes), 4 * first)
        first += len(checksums)
        column = columns.get(name)
        is_scattered = column is not None and column.is_scattered and hasattr(mmap, "MADV_RANDOM")  # not on Windows
        data, mapped = _read_flat(folder, entry, is_mapped, is_scattered=is_scattered)
        row_bytes = 1 if column is None else column.row_bytes
        checked[name] = CheckedFile(folder / entry.name, data, checksums, row_bytes, mapped, is_scattered)
    checks = FileChecks(checked)
    if "deleted" in checked:
        checks.verify("deleted")
    arrays = {
        name: checked[name].data.view(column.dtype).reshape(header.counts[column.count], *column.shape)
        for name, column in columns.items()
    }
    deleted = np.array(checked["deleted"].data) if "deleted" in checked else None
    return Opened(Saved(header, {name: checked[name].checksums for name in columns}), arrays, deleted, checks)


def _write(folder: Path, state: T, segments: Segments, saved: Saved[T] | None, number: int) -> Saved[T]:
    """Everything but the header; `saved`: append to its files instead of making new ones."""
    old = {} if saved is None else saved.header.files
    files, checksums, counts = dict[str, FileEntry](), dict[str, np.ndarray](), {ROWS: sum(map(len, segments))}
    for name, column in state.columns().items():
        entry = old.get(name, FileEntry(f"{name}-{number:06}.bin", 0))
        blocks = _bytes_from(segments, name, entry.bytes // column.row_bytes)
        known = np.zeros(0, np.uint32) if saved is None else saved.checksums[name]
        checksums[name] = _append(folder / entry.name, entry.bytes, known, blocks)
        counts[column.count] = sum(len(segment.rows.columns()[name]) for segment in segments)
        files[name] = FileEntry(entry.name, counts[column.count] * column.row_bytes)
    table = dict(checksums)
    if any(segment.num_deleted for segment in segments):
        bits = deleted_bits(segments)
        files["deleted"] = FileEntry(f"deleted-{number:06}.bin", bits.nbytes)
        table["deleted"] = _append(folder / files["deleted"].name, 0, np.zeros(0, np.uint32), iter([bits]))
    packed = np.concatenate([part.astype("<u4") for part in table.values()]).tobytes()
    checks = FileEntry(f"checks-{number:06}.bin", len(packed))
    with open_new(folder / checks.name) as file:
        file.write(packed)
        _sync(file)
    header = Header(
        state=state,
        token=uuid.uuid4().hex,
        counts=counts,
        is_ascending=is_ascending(segments),
        files=files,
        checks=checks,
        checks_sha256=hashlib.sha256(packed).hexdigest(),
    )
    return Saved(header, checksums)


def _append(path: Path, start: int, known: np.ndarray, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Write behind byte `start` of the file, whose checksums up to there are `known`; the checksums of all of it."""
    checksums = known.tolist()
    with open_own(path) if start else open_new(path) as file:
        if os.fstat(file.fileno()).st_size < start:
            raise IndexFileError(f"{path} is torn: it is shorter than the {start} bytes saved; pass overwrite=True")
        file.truncate(start)  # what a save that did not end has left
        file.seek(start)
        for block in blocks:
            view = block.data.cast("B")
            file.write(view)
            done = 0
            while done < len(view):
                within = start % BLOCK
                count = min(BLOCK - within, len(view) - done)
                if within == 0:
                    checksums.append(0)
                checksums[-1] = zlib.crc32(view[done : done + count], checksums[-1])
                start, done = start + count, done + count
        _sync(file)
    return np.array(checksums, np.uint32)


def _bytes_from(segments: Segments, name: str, first: int) -> Iterator[np.ndarray]:
    """The column's rows from `first` on, as bytes, some at a time."""
    for segment in segments:
        column = segment.rows.columns()[name]
        rows_a_chunk = max(1, _CHUNK // max(1, column[:1].nbytes))
        for row in range(min(first, len(column)), len(column), rows_a_chunk):
            part = slice(row, min(row + rows_a_chunk, len(column)))
            segment.verify_spans(name, np.array([part.start]), np.array([part.stop]))
            yield np.ascontiguousarray(column[part]).reshape(-1).view(np.uint8)
        first = max(0, first - len(column))


def _read_flat(
    folder: Path, entry: FileEntry, is_mapped: bool, *, is_scattered: bool
) -> tuple[np.ndarray, mmap.mmap | None]:
    """(bytes,) uint8: the part of the file that counts; and its map, where it is mapped."""
    _check_size(folder, entry)
    if entry.bytes == 0:
        return np.empty(0, np.uint8), None
    if not is_mapped:
        return np.fromfile(folder / entry.name, np.uint8, entry.bytes), None
    with open(folder / entry.name, "rb") as file:
        mapped = mmap.mmap(file.fileno(), entry.bytes, access=mmap.ACCESS_READ)
    if is_scattered:
        mapped.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapped, np.uint8), mapped


def _read_file(folder: Path, entry: FileEntry) -> bytes:
    _check_size(folder, entry)
    with open(folder / entry.name, "rb") as file:
        return file.read(entry.bytes)


def _check_size(folder: Path, entry: FileEntry) -> None:
    size = os.stat(folder / entry.name).st_size
    if size < entry.bytes:
        raise IndexFileError(f"{folder / entry.name} is torn: it has {size} of {entry.bytes} bytes; restore the folder")


def _next_number(folder: Path) -> int:
    """Above those of all our files in the folder, so that a new file never replaces one that a reader may have."""
    numbers = [int(match[1]) for name in os.listdir(folder) if (match := re.fullmatch(r"[a-z]+-(\d{6,})\.bin", name))]
    return max(numbers, default=0) + 1


def _remove_others(folder: Path, header: Header[State]) -> None:
    """Files of earlier states. A reader that has them open keeps them."""
    kept = {entry.name for entry in (*header.files.values(), header.checks)}
    for name in os.listdir(folder):
        if _OURS.fullmatch(name) and name not in kept:
            with suppress(OSError):
                os.unlink(folder / name)


def _are_own(folder: Path, header: Header[State]) -> bool:
    """Whether the columns may grow where they lie: not where somebody has put links in their place, whose targets are
    not ours, or given them other names, as copies that share their files do."""
    return all(is_own(folder / entry.name) for entry in header.files.values())


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Held by one process at a time; the system lets go of it when the process dies."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: there, two processes must not save to one folder at a time
        yield
        return
    with open_own(folder / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise IndexFileError(f"{folder}: another process is saving there; wait for it") from error
        yield
