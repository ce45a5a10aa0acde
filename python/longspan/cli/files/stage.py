"""Where rows wait until all are there: a hidden folder beside the output, which itself appears in one rename.

    .OUT.partial-…/  vectors.npy   128 bytes kept for the header, then the rows
                     kept.jsonl    the kept fields, a JSON object a row
                     state.json    what the run is, how many rows are safe on the disk, and how many records they came
                                   from (resumable runs only)

A resumable run's folder has a fixed name, `.OUT.partial`. Each block of it is written, fsynced, and only then counted
in `state.json`; what lies beyond that count is cut off when the run goes on.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from longspan.cli.console.failures import CommandError
from longspan.own_files import open_new, open_own, sync_folder

if sys.platform != "win32":  # there, two resumed runs of one output are not kept apart
    import fcntl

Vectors: TypeAlias = npt.NDArray[Any]  # (rows, dim), dtype of the precision
Block: TypeAlias = tuple[int, Vectors, list[str]]  # number of the first row, vectors, kept fields as JSON

_HEADER_BYTES = 128
_ROWS_A_BLOCK = 4096


def npy_header(dtype: np.dtype[Any], rows: int, dim: int) -> bytes:
    """The header of a .npy file (format 1.0), always 128 bytes long, so that it can be written over at the end."""
    fields = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    return b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little") + fields.ljust(117).encode() + b"\n"


def stage_folder(target: Path, *, is_resumable: bool) -> Path:
    """Where rows for `target` wait; a name known before the folder is there, so that it can always be removed."""
    return target.parent / f".{target.name}.partial{'' if is_resumable else '-' + secrets.token_hex(4)}"


class Stage:
    """The rows of one run, (rows, dim) of `dtype`, on the disk.

    Args:
        folder: from `stage_folder`; made if it is not there.
        run: what makes two runs the same run, as JSON values; None where the run is not to be resumed.
    Raises: OSError, the folder cannot be written to; CommandError, a kept run that is another one, damaged or in use.
    """

    def __init__(
        self, folder: Path, dtype: np.dtype[Any], dim: int, *, run: Mapping[str, object] | None = None
    ) -> None:
        self.folder, self.dtype, self.dim, self.rows, self.records = folder, dtype, dim, 0, 0
        self._run = run
        self._beside: dict[str, IO[bytes]] = {}
        folder.mkdir(exist_ok=run is not None)
        if folder.is_symlink():
            raise CommandError(f"{folder} is a link, and rows wait in a folder of our own; remove it")
        self._kept = _open_to_append(self.folder / "kept.jsonl")
        self._vectors = _open_to_append(self.folder / "vectors.npy")
        try:
            if run is None:
                self._vectors.write(bytes(_HEADER_BYTES))
            else:
                self._go_on(run)
        except BaseException:
            self.close()
            raise

    def append(self, vectors: Vectors, kept: Sequence[str], records: int | None = None) -> None:
        """Add the rows that came from so many records, one from each if None; in a resumable run they are on the disk
        when this returns."""
        if vectors.dtype != self.dtype or vectors.shape != (len(kept), self.dim):
            raise ValueError(
                f"rows must be ({len(kept)}, {self.dim}) {self.dtype}, got {vectors.shape} {vectors.dtype}"
            )
        self._vectors.write(np.ascontiguousarray(vectors).data)
        self._kept.write("".join(line + "\n" for line in kept).encode())
        rows, records = self.rows + len(kept), self.records + (len(kept) if records is None else records)
        if self._run is not None:
            self._write_state(rows, records)
        self.rows, self.records = rows, records

    def seal(self) -> Path:
        """Write the header over its place; `vectors.npy` is then a whole .npy file, safe on the disk."""
        self._vectors.seek(0)
        self._vectors.write(npy_header(self.dtype, self.rows, self.dim))
        _sync(self._vectors)
        return self.folder / "vectors.npy"

    def blocks(self) -> Iterator[Block]:
        """All rows again, in order; at least one block, which is empty where there is no row."""
        self._vectors.flush()
        kept = self.kept()
        with open(self.folder / "vectors.npy", "rb") as handle:
            handle.seek(_HEADER_BYTES)
            for start in range(0, max(self.rows, 1), _ROWS_A_BLOCK):
                count = min(_ROWS_A_BLOCK, self.rows - start)
                vectors = np.fromfile(handle, self.dtype, count * self.dim).reshape(count, self.dim)
                yield start, vectors, list(islice(kept, count))

    def kept(self) -> Iterator[str]:
        """Every row's kept fields as JSON, in order."""
        self._kept.flush()
        with open(self.folder / "kept.jsonl", encoding="utf-8", newline="\n") as handle:
            for line in handle:
                yield line.rstrip("\n")

    def beside(self, name: str) -> IO[bytes]:
        """A new file of that name in the folder, to write what is told beside the rows; closed with the stage."""
        self._beside[name] = open_new(self.folder / name)
        return self._beside[name]

    def finished(self, name: str) -> Path | None:
        """The path of what `beside` gave, closed; None where nothing was written to it."""
        handle = self._beside.get(name)
        if handle is None:
            return None
        handle.close()
        path = self.folder / name
        return path if path.stat().st_size else None

    def close(self) -> None:
        """Leave the files as they are, for a later run."""
        for handle in (self._vectors, self._kept, *self._beside.values()):
            try:
                handle.close()
            except OSError:  # a full disk again; `state.json` does not count what was lost
                continue

    def discard(self) -> None:
        """Remove the folder and all in it."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _go_on(self, run: Mapping[str, object]) -> None:
        """Take up the rows that an earlier run of the same kind left, if any."""
        self._lock()
        self.rows, self.records, kept_bytes = self._read_state(run)
        self._cut(self._kept, kept_bytes)
        self._cut(self._vectors, _HEADER_BYTES + self.rows * self.dim * self.dtype.itemsize)
        self._write_state(self.rows, self.records)

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(f"another run is at work in {self.folder}; wait for it") from error

    def _read_state(self, run: Mapping[str, object]) -> tuple[int, int, int]:
        """(rows, records, bytes of kept.jsonl) that are safe, zeros in a fresh folder."""
        path = self.folder / "state.json"
        if not path.exists():
            self._vectors.write(bytes(_HEADER_BYTES))
            return 0, 0, 0
        try:
            state = json.loads(path.read_bytes())
            then, rows, records, kept_bytes = (state[name] for name in ("run", "rows", "records", "kept_bytes"))
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{path} is damaged; delete {self.folder} to start again") from error
        now = json.loads(json.dumps(run))
        for key in now:
            if then.get(key) != now[key]:
                raise CommandError(
                    f"{self.folder} holds a run of another kind ({key}: {_short(then.get(key))} there, "
                    f"{_short(now[key])} now); give the same options and inputs, or delete it to start again"
                )
        return rows, records, kept_bytes

    def _write_state(self, rows: int, records: int) -> None:
        """Count `rows` and `records`, once they are on the disk: data first, then the count, each by rename."""
        _sync(self._vectors)
        _sync(self._kept)
        state = {"rows": rows, "records": records, "kept_bytes": self._kept.tell(), "run": self._run}
        fresh = self.folder / "state.json.new"
        with open_new(fresh) as handle:
            handle.write(json.dumps(state).encode())
            _sync(handle)
        os.replace(fresh, self.folder / "state.json")
        sync_folder(self.folder)

    def _cut(self, handle: IO[bytes], size: int) -> None:
        if handle.seek(0, os.SEEK_END) < size:
            raise CommandError(f"{self.folder} lacks rows that it counts; delete it to start again")
        handle.truncate(size)
        handle.seek(size)


def _open_to_append(path: Path) -> IO[bytes]:
    handle = open_own(path)
    handle.seek(0, os.SEEK_END)
    return handle


def _sync(handle: IO[bytes]) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
